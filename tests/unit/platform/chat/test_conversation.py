"""What is decided on a command: one answer, and what else comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from rave_platform.domain import tasks
from rave_platform.domain.chat import conversation, grammar
from rave_platform.domain.chat.commands import Verb
from rave_platform.domain.chat.conversation import (
    ChatOutcome,
    DeedKind,
    HeardKind,
    Judgement,
    KnownToChat,
    decide,
)
from rave_platform.domain.chat.grammar import NotUnderstood
from rave_platform.domain.chat.permissions import ChatPermissions
from rave_platform.domain.tasks import AgentHeartbeat, AgentKind, DecisionKind, TaskKind
from tests.unit.platform.chat.talk import MOMENT, NOW, PERMISSIONS, ROOM, asked, said, task

if TYPE_CHECKING:
    from rave_platform.domain.chat.conversation import ChatTask

EVERYTHING = frozenset(Verb)
RUNNING: dict[str, Any] = {"status": "running", "attempt": 1, "started_at": MOMENT}
COMPLETED: dict[str, Any] = {
    "status": "completed",
    "attempt": 1,
    "ended_at": MOMENT,
    "result": "merge request 3",
}


def outcome(text: str, known: KnownToChat | None = None, **more: object) -> ChatOutcome:
    heard = said(text, **more)  # type: ignore[arg-type]
    command = grammar.parse(text)
    assert command is not None
    assert not isinstance(command, NotUnderstood)
    return decide(heard, command, known or KnownToChat(EVERYTHING))


def answer(text: str, known: KnownToChat | None = None) -> str:
    found = outcome(text, known)
    assert found.deed is not None
    assert (found.task, found.decision) == (None, None)
    return found.deed.text


def test_help_shows_what_one_may_command_and_how_it_is_written() -> None:
    text = answer("!rave help", KnownToChat(frozenset({Verb.HELP, Verb.RUN})))
    assert "!rave run AGENT PROJECT INSTRUCTION" in text
    assert "approve" not in text
    assert "For example: !rave reject" in answer("!rave help reject")


def test_run_makes_a_task_whose_names_follow_from_the_message() -> None:
    first, again = (outcome("!rave run ai-engineer shop do it") for _ in range(2))
    assert first == again
    assert first.task is not None
    assert first.deed is not None
    found = first.task.task
    assert (found.agent, found.project, found.instruction) == ("ai-engineer", "shop", "do it")
    assert (first.task.room, first.task.thread, first.task.asked_by) == (ROOM, "$event-1", "alice")
    assert found.task_id.hex[:8] in first.deed.text
    assert first.deed.key == "answer:$event-1"
    other = outcome("!rave run ai-engineer shop do it", number=2)
    assert other.task is not None
    assert other.task.task.task_id != found.task_id
    assert tasks.asked_subject(found) == f"rave.tasks.v1.asked.ai-engineer.{found.task_id}"


def test_an_answer_stands_in_the_thread_of_its_command() -> None:
    outside, inside = outcome("!rave help"), outcome("!rave help", thread="$root")
    assert outside.deed is not None
    assert inside.deed is not None
    assert (outside.deed.thread, outside.deed.to) == ("$event-1", "$event-1")
    assert (inside.deed.thread, inside.deed.to) == ("$root", "$event-1")


def test_a_new_project_is_a_task_that_each_agent_could_do() -> None:
    found = outcome("!rave create project shop")
    assert found.task is not None
    asked = found.task.task
    assert (asked.kind, asked.project, asked.instruction) == (
        TaskKind.CREATE_PROJECT, "shop", "shop",
    )  # fmt: skip
    assert found.deed is not None
    assert "the project shop" in found.deed.text


def test_agents_are_listed_or_it_is_said_why_not() -> None:
    beats = [
        AgentHeartbeat(agent=AgentKind.AI_ENGINEER, instance="b", at=MOMENT),
        AgentHeartbeat(
            agent=AgentKind.AI_ENGINEER, instance="a", at=MOMENT, task_id=task().task_id
        ),
    ]
    text = answer("!rave agents", KnownToChat(EVERYTHING, agents=beats))
    short = task().task_id.hex[:8]
    assert text == f"ai-engineer a: works on {short}\nai-engineer b: waits for a task"
    assert answer("!rave agents") == "No agent is there."
    assert "stream is away" in answer("!rave agents", KnownToChat(EVERYTHING, agents=None))
    subject = tasks.heartbeat_subject(beats[0])
    assert subject == "rave.agents.v1.ai-engineer.b"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "shop: pending ("),
        ({"attempt": 1}, "pending, put back"),
        (RUNNING, ": running ("),
        ({**RUNNING, "attempt": 2}, "running, attempt 2"),
        (COMPLETED, "completed. merge request 3"),
        ({**COMPLETED, "result": ""}, ": completed ("),
        ({"status": "failed", "ended_at": MOMENT, "error": "no tests"}, "failed: no tests"),
    ],
)
def test_status_says_how_a_task_stands(changes: dict[str, Any], says: str) -> None:
    known = KnownToChat(EVERYTHING, tasks=[asked(task(**changes))])
    assert says in answer("!rave status 3f2a91c4", known)


def test_status_of_all_is_not_longer_than_people_read() -> None:
    long = task(instruction="x" * 5000)
    many = [asked(long)] * (conversation.MOST_LISTED + 1)
    lines = answer("!rave status", KnownToChat(EVERYTHING, tasks=many)).splitlines()
    assert len(lines) == conversation.MOST_LISTED + 1
    assert lines[-1] == "… and more"
    assert all(len(line) < 200 for line in lines)
    assert answer("!rave status") == "No task waits or runs."
    judged = conversation.ChatTask(task(**COMPLETED), ROOM, "", "alice", Judgement.APPROVED, "bob")
    text = answer("!rave status 3f2a91c4", KnownToChat(EVERYTHING, tasks=[judged]))
    assert "approved by bob" in text


def test_a_task_that_is_none_or_several_is_said() -> None:
    assert answer("!rave approve 3f2a91c4") == "There is no task 3f2a91c4."
    two = [asked(task(1)), asked(task(2))]
    text = answer("!rave status 3f2a91c4", KnownToChat(EVERYTHING, tasks=two))
    assert str(two[1].task.task_id) in text


@pytest.mark.parametrize(
    ("text", "stands", "kind", "judgement"),
    [
        ("!rave approve 3f2a91c4", COMPLETED, DecisionKind.APPROVE, Judgement.APPROVED),
        ("!rave reject 3f2a91c4 why", COMPLETED, DecisionKind.REJECT, Judgement.REJECTED),
        ("!rave cancel 3f2a91c4 why", RUNNING, DecisionKind.CANCEL, Judgement.CANCELLED),
        ("!rave cancel 3f2a91c4 why", {}, DecisionKind.CANCEL, Judgement.CANCELLED),
    ],
)
def test_people_decide_on_a_task_once(
    text: str, stands: dict[str, Any], kind: DecisionKind, judgement: Judgement
) -> None:
    before = asked(task(**stands))
    found = outcome(text, KnownToChat(EVERYTHING, tasks=[before]), number=7, account="bob")
    assert found.decision is not None
    assert found.task is not None
    assert found.deed is not None
    assert (found.decision.decision, found.decision.by) == (kind, "bob")
    assert found.decision.task_id == before.task.task_id
    assert found.decision.trace_id == before.task.trace_id
    assert tasks.decided_subject(found.decision).startswith("rave.tasks.v1.decided.")
    assert (found.task.judgement, found.task.judged_by) == (judgement, "bob")
    assert f"{judgement} by bob" in found.deed.text
    again = outcome(text, KnownToChat(EVERYTHING, tasks=[found.task]), number=8)
    assert again.decision is None
    assert again.deed is not None
    assert f"{judgement} by bob already" in again.deed.text


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("!rave approve 3f2a91c4", {}), ("!rave approve 3f2a91c4", RUNNING),
        ("!rave reject 3f2a91c4 x", RUNNING), ("!rave cancel 3f2a91c4", COMPLETED),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_yet_or_any_more_is_said(text: str, stands: dict[str, Any]) -> None:
    known = KnownToChat(EVERYTHING, tasks=[asked(task(**stands))])
    assert "only one that is" in answer(text, known)


# --- what is told of tasks


def told(before: ChatTask, **changes: Any) -> str | None:
    deed = conversation.told(before, task(**changes))
    assert deed is None or (deed.kind, deed.thread, deed.room) == (DeedKind.SAY, "$event-1", ROOM)
    return deed.text if deed else None


def test_what_becomes_of_a_task_is_told_and_what_is_no_news_is_not() -> None:
    pending, running = asked(task()), asked(task(**RUNNING))
    assert "running" in (told(pending, **RUNNING) or "")
    assert told(running, **RUNNING) is None
    assert "put back" in (told(running, attempt=1) or "")
    assert "attempt 2" in (told(running, **{**RUNNING, "attempt": 2}) or "")
    assert "completed. merge request 3" in (told(running, **COMPLETED) or "")
    assert told(asked(task(**COMPLETED)), **RUNNING) is None
    assert told(asked(task(**{**RUNNING, "attempt": 2})), **RUNNING) is None
    hostile = {"status": "failed", "ended_at": MOMENT, "error": "@room \u202e" + "x" * 4000}
    text = told(pending, **hostile) or ""
    assert "@room" not in text
    assert "\u202e" not in text
    assert tasks.told_subject(task()) == f"rave.tasks.v1.told.{task().task_id}"


# --- who may


def test_nobody_may_anything_by_default() -> None:
    nobody = ChatPermissions()
    assert nobody.verbs(frozenset({"staff"})) == frozenset()
    assert conversation.denied(Verb.RUN, nobody) == "You may not command run. Nobody may."
    text = conversation.denied(Verb.HELP, PERMISSIONS)
    assert text == "You may not command help. Who is in guests or staff may."


def test_groups_add_up() -> None:
    assert PERMISSIONS.verbs(frozenset({"guests"})) == {Verb.HELP, Verb.STATUS}
    assert PERMISSIONS.verbs(frozenset({"guests", "staff", "other"})) == EVERYTHING
    assert PERMISSIONS.verbs(frozenset()) == frozenset()


def test_only_who_may_command_something_brings_us_into_a_room_that_is_named() -> None:
    def invited(room: str, *groups: str) -> DeedKind:
        heard = said("", room=room, kind=HeardKind.INVITATION)
        return conversation.invited(heard, PERMISSIONS, frozenset(groups)).kind

    assert invited(ROOM, "guests") is DeedKind.JOIN
    assert invited(ROOM) is DeedKind.LEAVE
    assert invited("!other:rave.test", "staff") is DeedKind.LEAVE


def test_a_room_is_told_once_that_it_cannot_be_read() -> None:
    first, second = (
        conversation.unreadable(said("", n, kind=HeardKind.UNREADABLE)) for n in (1, 2)
    )
    assert first.key == second.key
    assert "encrypted" in first.text


def test_a_command_that_was_heard_too_late_is_to_be_said_again() -> None:
    assert conversation.stale(said("x"), NOW + conversation.STALE - 1) == ""
    assert conversation.stale(said("x"), NOW - 1e9) == ""
    assert "2 h ago" in conversation.stale(said("x"), NOW + 7200)


def test_what_was_not_understood_is_answered_with_the_nearest_word() -> None:
    text = conversation.misunderstood(NotUnderstood("no", "!rave help", "status"))
    assert text == 'Not understood: no. Did you mean "status"?\nExpected: !rave help'


def test_ids_of_different_messages_differ() -> None:
    assert conversation.name_of(said("", 1), "task") != conversation.name_of(said("", 2), "task")
    assert len(conversation.trace_of(said(""))) == 32
    assert conversation.short(uuid4()).isalnum()
