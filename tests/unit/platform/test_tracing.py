"""Traces: what is read and written of them, where spans begin and end, and how they are kept."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.pool.jobs import tracecontext
from rave_platform.adapters import spans
from rave_platform.adapters.chat.conversations import SqliteConversations
from rave_platform.adapters.spans import INTERRUPTED, NoSpans, SqliteSpans
from rave_platform.adapters.store import SqliteEvents
from rave_platform.application import tracing as traces
from rave_platform.application.agents.ports import TaskFailedError
from rave_platform.application.chat.following import Following
from rave_platform.application.chat.obeying import Obeying
from rave_platform.application.chat.ports import ToldTask
from rave_platform.application.chat.speaking import Speaking
from rave_platform.application.intake import SourceIntake
from rave_platform.application.journal import Journal
from rave_platform.application.outbox import Outbox
from rave_platform.application.ports import StoreUnavailableError, StreamIdentity
from rave_platform.application.tracing import SpanKeeper, Tracer
from rave_platform.domain import tasks, tracing
from rave_platform.domain.handover import TakenIn, TurnedDown
from rave_platform.domain.signatures import WebhookRequest
from rave_platform.domain.tasks import AgentTask, DecisionKind, TaskKind
from rave_platform.domain.tracing import Span, SpanKind, TraceContext
from tests.unit.platform.agents.world import KilledError, World, decision, task
from tests.unit.platform.chat.talk import MOMENT, NOW, PERMISSIONS, said
from tests.unit.platform.chat.test_bridge import Agents, Groups, MemoryChat
from tests.unit.platform.deliveries import request, source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rave_platform.application.ports import OutgoingEvent
    from rave_platform.domain.chat.conversation import HeardMessage

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
WELL = f"00-{TRACE}-{SPAN}-01"
HEX = st.text("0123456789abcdef", min_size=1)


def hexes(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=count, max_size=count)


# --- the header


def test_a_header_is_read_and_written_as_it_was() -> None:
    found = tracing.parse(WELL)
    assert found == TraceContext(TRACE, SPAN, 1)
    assert found is not None
    assert found.header == WELL


@pytest.mark.parametrize(
    "text",
    [
        "", "00", WELL.upper(), f"{WELL} ", f" {WELL}", f"{WELL}\n", f"{WELL}-more",
        f"ff{WELL[2:]}",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-0g", f"00-{TRACE[:-1]}-{SPAN}-01", f"{WELL}, {WELL}", "\0" * 55,
        WELL.replace("4", "\N{ARABIC-INDIC DIGIT FOUR}"),
    ],
)  # fmt: skip
def test_what_is_no_header_is_none(text: str) -> None:
    assert tracing.parse(text) is None


def test_of_a_newer_version_what_is_known_counts() -> None:
    assert tracing.parse(f"cc-{TRACE}-{SPAN}-ff-what-is-to-come") == TraceContext(TRACE, SPAN, 1)


LIKELY = st.builds(
    lambda *parts: "-".join(parts), hexes(2), hexes(32), hexes(16), hexes(2)
) | st.builds(lambda *parts: "-".join(parts), HEX, HEX, HEX, HEX)


@given(LIKELY | st.text() | st.builds(lambda text, more: f"{text}-{more}", LIKELY, st.text()))
def test_whatever_comes_is_read_as_a_pool_reads_it_and_as_it_is_written_again(text: str) -> None:
    found, pools = tracing.parse(text), tracecontext.parse(text)
    assert (found is None) == (pools is None)
    if found is not None and pools is not None:
        assert (found.trace_id, found.span_id, found.flags) == (
            pools.trace,
            pools.span,
            pools.flags,
        )
        assert tracing.parse(found.header) == found
        assert found.header == pools.header


def test_a_message_is_believed_of_its_own_trace_alone() -> None:
    known = tracing.handed_over(TRACE, "message")
    assert tracing.parent(WELL, known) == TraceContext(TRACE, SPAN)
    assert tracing.parent(WELL.replace("4bf", "5bf"), known) == known
    assert tracing.parent("nonsense", known) == known


# --- beginning and ending


class Kept:
    """What a tracer told, one after another."""

    def __init__(self) -> None:
        self.told: list[Span] = []
        self.moment = 0
        self.tracer = Tracer(self.told.append, self.tick)

    def tick(self) -> int:
        self.moment += 1
        return self.moment

    def last(self) -> dict[str, Span]:
        return {span.name: span for span in self.told}


def test_a_part_is_within_what_goes_on_and_each_is_told_twice() -> None:
    kept = Kept()
    root = tracing.named(TRACE, "root")
    with kept.tracer.span(root, "whole") as whole:
        whole.say(rave_task="x" * 999)
        with traces.part("first", SpanKind.CLIENT), traces.part("within"):
            pass
        with traces.part("second"):
            pass
    with traces.part("outside") as outside:
        assert outside is None
    found = kept.last()
    assert list(found) == ["whole", "first", "within", "second"]
    assert len(kept.told) == 8
    assert found["first"].parent_span_id == found["second"].parent_span_id == root.span_id
    assert found["within"].parent_span_id == found["first"].context.span_id
    assert len({span.context for span in found.values()}) == 4
    assert {span.context.trace_id for span in found.values()} == {TRACE}
    assert found["first"].kind is SpanKind.CLIENT
    assert found["whole"].attributes == {"rave.task": "x" * tracing.LONGEST}
    assert (found["whole"].start_time_unix_nano, found["whole"].end_time_unix_nano) == (1, 8)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (TaskFailedError("too dear"), "TaskFailedError: too dear"),
        # Whatever others say may hold what nobody may know.
        (KeyError("hunter2"), "KeyError"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
def test_why_something_did_not_succeed_is_said_in_our_own_words(
    fault: BaseException, words: str
) -> None:
    kept = Kept()
    with pytest.raises(type(fault)), kept.tracer.span(tracing.named(TRACE), "whole"):
        raise fault
    assert kept.last()["whole"].error == words
    assert kept.last()["whole"].end_time_unix_nano == 2


def test_a_clock_that_is_put_back_ends_nothing_before_it_began() -> None:
    kept = Kept()
    with kept.tracer.span(tracing.named(TRACE), "whole"):
        kept.moment = -10
    assert kept.last()["whole"].end_time_unix_nano == 1
    kept.tracer.over(tracing.named(TRACE), "over", 50)
    assert kept.last()["over"].end_time_unix_nano == 50


# --- keeping


async def blocking(call: Callable[[], Any]) -> Any:
    return call()


def span(number: int = 1, start: int = 0, **changes: Any) -> Span:
    found = Span(tracing.named(TRACE, number), "", "step", SpanKind.INTERNAL, start)
    return replace(found, **changes)


class Stored:
    """A store that notes what it is given; or cannot."""

    def __init__(self, *, full: bool = False) -> None:
        self.given: list[Sequence[Span]] = []
        self.full = full

    def keep(self, found: Sequence[Span]) -> None:
        if self.full:
            raise StoreUnavailableError("the disk is full")
        self.given.append(found)

    def prune(self, now: float) -> int:
        del now
        return 0


def test_what_waits_is_kept_together_and_only_as_it_is_last() -> None:
    store = Stored()

    async def work() -> None:
        keeper = SpanKeeper(store, blocking)
        running = asyncio.create_task(keeper.run())
        for end in (None, 7):
            keeper.keep(span(1, end_time_unix_nano=end))
        keeper.keep(span(2))
        while not store.given:
            await asyncio.sleep(0)
        await keeper.flush()
        running.cancel()

    asyncio.run(work())
    assert store.given == [[span(1, end_time_unix_nano=7), span(2)]]


def test_spans_that_cannot_be_kept_are_lost_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        keeper = SpanKeeper(Stored(full=True), blocking)
        for number in range(traces.MOST_WAITING + 3):
            keeper.keep(span(number))
        await keeper.flush()
        await keeper.flush()

    with caplog.at_level(logging.WARNING):
        asyncio.run(work())
    (record,) = caplog.records
    assert record.__dict__["count"] == traces.MOST_WAITING + 3


def rows(store: SqliteSpans) -> list[tuple[Any, ...]]:
    return store._file.rows(
        "SELECT start_time_unix_nano, end_time_unix_nano, status_code, status_message FROM spans"
        " ORDER BY start_time_unix_nano"
    )


def test_what_is_done_again_goes_on_from_its_first_beginning(tmp_path: Path) -> None:
    with SqliteSpans(tmp_path / "spans.db", "agent", 7) as store:
        store.keep([span(start=5, end_time_unix_nano=6, error="away")])
        store.keep([span(start=8, end_time_unix_nano=9)])
        assert rows(store) == [(5, 9, 0, "")]


def test_what_nobody_ended_was_interrupted_once_somebody_looks(tmp_path: Path) -> None:
    place = tmp_path / "spans.db"
    with SqliteSpans(place, "agent", 7) as store:
        store.keep([span(1, start=5), span(2, start=6, end_time_unix_nano=7)])
        assert rows(store) == [(5, None, 0, ""), (6, 7, 0, "")]
    with SqliteSpans(place, "agent", 7, now=lambda: 50) as store:
        assert rows(store) == [(5, 50, 2, INTERRUPTED), (6, 7, 0, "")]


def test_spans_are_kept_for_as_long_as_the_mode_has_it_and_no_more_than_there_is_room_for(
    tmp_path: Path,
) -> None:
    day = int(86400 * 1e9)
    with SqliteSpans(tmp_path / "spans.db", "agent", 7, most=20) as store:
        store.keep([span(n, start=n * day, end_time_unix_nano=n * day) for n in range(30)])
        assert store.prune(15 * 86400.0) == 8
        assert store.prune(15 * 86400.0) == 2
        assert store.prune(15 * 86400.0) == 0
        assert [start // day for start, *_ in rows(store)] == list(range(10, 30))


def test_spans_that_cannot_be_kept_stop_no_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spans.db").write_text("something else than a database")
    (tmp_path / "spans.db").chmod(0o600)
    with spans.kept(tmp_path / "spans.db", "agent", 7) as store:
        assert isinstance(store, NoSpans)
        store.keep([span()])
        assert store.prune(0.0) == 0
    assert "no spans are kept" in caplog.text


# --- the agent's part of a trace


def lived(world: World) -> None:
    asyncio.run(world.live())


def test_each_step_of_a_task_and_each_call_of_the_forge_is_in_its_trace() -> None:
    world = World()
    world.gitlab.make("rave/shop")
    world.stream.ask(task())
    world.stream.decide(decision(DecisionKind.APPROVE))
    lived(world)
    found = world.spans.values()
    assert {one.context.trace_id for one in found} == {task().trace_id}
    assert all(one.end_time_unix_nano is not None and not one.error for one in found)
    named = {one.name: one for one in found}
    attempt = named["task work"]
    asked = tracing.handed_over(task().trace_id, str(task().task_id))
    assert attempt.parent_span_id == asked.span_id
    assert attempt.attributes == {
        "rave.task": str(task().task_id), "rave.attempt": "1", "rave.status": "completed",
    }  # fmt: skip
    below = [one.name for one in found if one.parent_span_id == attempt.context.span_id]
    assert below == [
        "project", "write", "test", "branch", "commit", "request", "status", "hand over",
        "hand over",
    ]  # fmt: skip
    approval = tracing.handed_over(
        task().trace_id, str(decision(DecisionKind.APPROVE).decision_uuid)
    )
    assert named["approve"].parent_span_id == approval.span_id
    # What the forge was told is what is kept.
    calls = [one.context.header for one in found if one.kind is SpanKind.CLIENT]
    assert sorted(world.gitlab.headers) == sorted(calls)
    parents = {one.parent_span_id for one in found if one.kind is SpanKind.CLIENT}
    steps = {one.name for one in found if one.context.span_id in parents}
    assert steps == {"project", "branch", "commit", "request", "status", "approve"}


def test_an_agent_that_was_killed_goes_on_in_the_same_trace_with_another_attempt() -> None:
    world = World()
    world.gitlab.make("rave/shop")
    world.stream.ask(task())
    world.points.deadly = 30
    with pytest.raises(KilledError):
        lived(world)
    lived(world)
    attempts = [one for one in world.spans.values() if one.name == "task work"]
    assert [one.error for one in attempts] == ["KilledError", ""]
    assert len({one.parent_span_id for one in attempts}) == 1
    assert {one.context for one in attempts} == {
        tasks.span_of(task(attempt=number)) for number in (1, 2)
    }


def test_what_a_task_failed_of_is_in_its_trace() -> None:
    world = World()
    world.stream.ask(task())
    lived(world)
    named = {one.name: one for one in world.spans.values()}
    assert "there is no project shop" in named["task work"].error
    assert "there is no project shop" in named["project"].error
    made = World()
    made.stream.ask(task(kind=TaskKind.CREATE_PROJECT))
    made.stream.decide(decision(DecisionKind.APPROVE, 2))
    lived(made)
    assert {one.name: one.error for one in made.spans.values()}["approve"] == (
        "no agent has completed the task"
    )


# --- what is around an agent


class Stream:
    """A stream that takes everything, and notes with which header."""

    connection = 1

    def __init__(self) -> None:
        self.taken: list[OutgoingEvent] = []

    async def connect(self) -> StreamIdentity:
        return StreamIdentity("one", len(self.taken))

    async def publish(self, event: OutgoingEvent) -> TakenIn | TurnedDown:
        self.taken.append(event)
        return TurnedDown("no") if len(self.taken) == 1 else TakenIn(len(self.taken))


def test_a_webhook_belongs_to_the_trace_of_its_sender_and_so_does_its_message(
    tmp_path: Path,
) -> None:
    kept, stream = Kept(), Stream()
    asked = request(1)
    asked = WebhookRequest({**asked.headers, "traceparent": WELL}, asked.body)

    async def work(store: SqliteEvents) -> None:
        journal = Journal(store, blocking)
        writing = asyncio.create_task(journal.run())
        intake = SourceIntake(source(), journal.append, tracer=kept.tracer)
        for _ in range(2):
            await intake.receive(asked)
        outbox = Outbox(store, stream, blocking, tracer=kept.tracer)
        for _ in range(2):
            await outbox.hand_over()
        writing.cancel()

    with SqliteEvents(tmp_path / "events.db", 7) as store:
        asyncio.run(work(store))
    assert [one.name for one in kept.told] == ["webhook forge", *["hand over"] * 4]
    received, over = kept.last().values()
    assert (received.context.trace_id, received.parent_span_id) == (TRACE, SPAN)
    assert over.parent_span_id == received.context.span_id
    # It was turned down first, and is one span all the same.
    assert [one.error for one in kept.told[1:]] == ["", "no", "", ""]
    assert [one.traceparent for one in stream.taken] == [over.context.header] * 2
    assert f'"trace_id":"{TRACE}"'.encode() in stream.taken[0].data


def test_a_command_its_answer_its_task_and_what_is_decided_on_it_are_one_trace(
    tmp_path: Path,
) -> None:
    kept, stream, chat = Kept(), Stream(), MemoryChat()

    async def hear(store: SqliteConversations, *heard: HeardMessage) -> None:
        store.hear(heard, "")
        obeying = Obeying(
            store, blocking, PERMISSIONS, directory=Groups(), agents=Agents(), wall=lambda: NOW,
            tracer=kept.tracer,
        )  # fmt: skip
        await obeying.obey()
        await Speaking(store, chat, blocking, tracer=kept.tracer).speak()
        while await Outbox(store.outgoing, stream, blocking, tracer=kept.tracer).hand_over():
            pass

    async def tell(store: SqliteConversations, found: AgentTask) -> None:
        agents = Agents()

        async def taken() -> None:
            pass

        told = tracing.handed_over(found.trace_id, "told")
        agents.told = lambda: _once(ToldTask(found.model_dump_json().encode(), taken, told.header))  # type: ignore[method-assign]
        await Following(store, agents, blocking).follow()
        await Speaking(store, chat, blocking, tracer=kept.tracer).speak()

    async def work(store: SqliteConversations) -> None:
        await hear(store, said("!rave run ai-engineer shop do it", 1), said("!rave help", 2))
        asked = AgentTask.model_validate_json(stream.taken[-1].data)
        done = {"status": "completed", "attempt": 1, "ended_at": MOMENT, "result": "here"}
        await tell(store, AgentTask.model_validate({**asked.model_dump(), **done}))
        await hear(store, said(f"!rave approve {asked.task_id}", 3))

    with SqliteConversations(tmp_path / "bridge.db", 7) as store:
        store.began(1.0)
        asyncio.run(work(store))
    found = [one for one in kept.told if one.end_time_unix_nano is not None]
    asked, decided = (TraceContext(one.cause.trace_id, one.cause.span_id)  # type: ignore[union-attr]
                      for one in (stream.taken[0], stream.taken[-1]))  # fmt: skip
    assert asked.trace_id == decided.trace_id
    tree = [
        (one.name, one.parent_span_id) for one in found if one.context.trace_id == asked.trace_id
    ]
    told = tracing.handed_over(asked.trace_id, "told")
    assert [one for one in tree if one != ("hand over", asked.span_id)] == [
        ("command run", ""), ("say", asked.span_id), ("say", told.span_id),
        ("command approve", ""), ("say", decided.span_id), ("hand over", decided.span_id),
    ]  # fmt: skip
    others = {one.name for one in found if one.context.trace_id != asked.trace_id}
    assert others == {"command help", "say"}
    assert all("do it" not in str(one) for one in found)


async def _once(told: ToldTask) -> list[ToldTask]:
    return [told]
