"""What is said of a merge: once, whoever merged it, and of no other project's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from rave_platform.adapters.chat.conversations import SqliteConversations
from rave_platform.application.chat.noticing import Noticing
from rave_platform.application.chat.ports import ToldTask
from rave_platform.domain import events
from rave_platform.domain.agents import wording
from rave_platform.domain.chat import merges
from rave_platform.domain.chat.conversation import ChatOutcome, Judgement
from rave_platform.domain.chat.merges import AgentsForge
from rave_platform.domain.events import EventKind, Provider, WebhookEvent
from rave_platform.domain.tasks import DecisionKind, DecisionOutcome, TaskKind
from tests.unit.platform.chat.talk import MOMENT, asked, said, task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rave_platform.domain.tasks import AgentTask

FORGE = AgentsForge("pagure")
COMPLETED = task(status="completed", attempt=1, ended_at=MOMENT, result="here")
SENTENCE = f"Task {COMPLETED.task_id.hex[:8]}: merged in the forge by bob: https://forge.test/1."


def merged(found: AgentTask = COMPLETED, **changes: Any) -> WebhookEvent:
    values: dict[str, Any] = {
        "kind": EventKind.MERGE_REQUEST, "action": "merge", "project": found.project,
        "actor": "bob", "ref": wording.branch(found), "url": "https://forge.test/1",
        "event_uuid": UUID(int=7), "trace_id": "b" * 32, "received_at": MOMENT,
        "source": "pagure", "provider": Provider.PAGURE, "delivery_id": "",
        "body_sha256": "0" * 64, **changes,
    }  # fmt: skip
    return WebhookEvent.model_validate(values)


def approved(found: AgentTask = COMPLETED, *, done: bool = True) -> DecisionOutcome:
    return DecisionOutcome(
        decision_uuid=UUID(int=9), task_id=found.task_id, trace_id=found.trace_id,
        decision=DecisionKind.APPROVE, done=done, text="merged: https://forge.test/1", at=MOMENT,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"action": "close"}, {"kind": EventKind.PUSH}, {"source": "github"}, {"ref": "main"},
     {"ref": "rave/ai-engineer-12"}],
)  # fmt: skip
def test_what_is_no_merge_of_a_task_is_of_none(changes: dict[str, Any]) -> None:
    assert merges.task_merged(merged(), FORGE) == COMPLETED.task_id
    assert merges.task_merged(merged(**changes), FORGE) is None


def test_a_merge_is_said_in_the_thread_and_the_trace_of_its_task() -> None:
    before = asked(COMPLETED)
    deed = merges.told(before, merged(), FORGE)
    assert deed is not None
    assert (deed.room, deed.thread, deed.text) == (before.room, before.thread, SENTENCE)
    assert COMPLETED.trace_id in deed.traceparent


def test_a_branch_of_that_name_in_another_project_is_another() -> None:
    before = asked(COMPLETED)
    assert merges.told(before, merged(project="other"), FORGE) is None
    assert merges.told(before, merged(project="team/shop"), FORGE) is None
    assert merges.told(before, merged(project="team/shop"), AgentsForge("pagure", "team"))
    assert merges.told(before, merged(project="shop"), AgentsForge("pagure", "team")) is None
    # Its kind stands in the branch.
    ref = wording.branch(COMPLETED).replace("ai-engineer", "backend-architect")
    assert merges.told(before, merged(ref=ref), FORGE) is None
    made = task(kind=TaskKind.CREATE_PROJECT)
    assert merges.told(asked(made), merged(made), FORGE) is None


# --- with the real store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteConversations]:
    with SqliteConversations(tmp_path / "bridge.db", 7) as opened:
        opened.hear([said("!rave run")], "")
        opened.decide(1, ChatOutcome(task=asked(COMPLETED)))
        yield opened


async def blocking(call: Callable[[], Any]) -> Any:
    return call()


class Events:
    """What the forge says; counts what was taken."""

    def __init__(self, *script: bytes) -> None:
        self.script, self.taken = list(script), 0

    async def said(self) -> list[ToldTask]:
        async def taken() -> None:
            self.taken += 1

        found, self.script = [ToldTask(data, taken) for data in self.script], []
        return found


def notice(store: SqliteConversations, *said: WebhookEvent | bytes) -> list[str]:
    """Have events noticed; return all that is to be said."""
    data = [one if isinstance(one, bytes) else events.message(one, b"{}") for one in said]
    reader = Events(*data)
    asyncio.run(Noticing(store, reader, blocking, FORGE).notice())
    assert reader.taken == len(said)
    return [pending.deed.text for pending in store.deeds(10)]


def judgement(store: SqliteConversations) -> tuple[Judgement, str]:
    found = store.task(COMPLETED.task_id)
    assert found is not None
    return found.judgement, found.judged_by


def test_a_merge_in_the_forge_is_said_once_and_is_its_approval(
    store: SqliteConversations,
) -> None:
    again = merged(event_uuid=UUID(int=8))
    others = merged(task(2, project="shop"))
    assert notice(store, b"{}", merged(), merged(), again, others) == [SENTENCE]
    assert judgement(store) == (Judgement.APPROVED, "bob")


def test_what_was_approved_here_is_said_by_whoever_carries_it_out(
    store: SqliteConversations,
) -> None:
    before = asked(COMPLETED)
    judged = type(before)(
        before.task, before.room, before.thread, before.asked_by, Judgement.APPROVED, "alice"
    )
    store.hear([said("!rave approve", 2)], "")
    store.decide(2, ChatOutcome(task=judged))
    assert notice(store, merged()) == []
    store.tell_outcome(approved(), merges.carried_out(judged, approved()))
    (sentence,) = notice(store, merged())
    assert sentence == f"Task {COMPLETED.task_id.hex[:8]}: merged: https://forge.test/1."
    assert judgement(store) == (Judgement.APPROVED, "alice")


def test_an_approval_that_came_too_late_says_nothing_more(store: SqliteConversations) -> None:
    assert notice(store, merged()) == [SENTENCE]
    # Its agent found it merged.
    store.tell_outcome(approved(), merges.carried_out(asked(COMPLETED), approved()))
    assert notice(store) == [SENTENCE]


def test_what_could_not_be_merged_here_and_was_in_the_forge_is_said(
    store: SqliteConversations,
) -> None:
    failed = approved(done=False)
    store.tell_outcome(failed, merges.carried_out(asked(COMPLETED), failed))
    assert notice(store, merged())[1:] == [SENTENCE]
