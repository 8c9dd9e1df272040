"""What becomes of an accepted event, of a task, and of a rate: small machines, whatever happens."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rave_platform.domain import handover, tasks
from rave_platform.domain.handover import (
    MOST_PRUNED,
    MOST_REFUSALS,
    Handover,
    HandoverState,
    HandoverStep,
    LostByStream,
    Replayed,
    TakenIn,
    TurnedDown,
    advance,
    message_id,
    pruned_until,
)
from rave_platform.domain.ratelimit import Bucket, Rate, draw
from rave_platform.domain.tasks import AgentKind, AgentTask, TaskStatus

steps: st.SearchStrategy[HandoverStep] = st.one_of(
    st.builds(TakenIn, st.integers(1, 1000)),
    st.builds(TurnedDown, st.just("too large"), st.booleans()),
    st.just(Replayed()),
    st.just(LostByStream()),
)


def after(*what: HandoverStep) -> Handover:
    found = Handover()
    for step in what:
        found = advance(found, step)
    return found


@given(st.lists(steps))
def test_a_handover_agrees_with_itself_whatever_happens(what: list[HandoverStep]) -> None:
    found = after(*what)
    assert (found.state is HandoverState.PUBLISHED) == (found.sequence is not None)
    assert (found.state is HandoverState.DEAD) <= bool(found.why)
    assert found.refusals <= MOST_REFUSALS
    assert found.replays <= sum(isinstance(step, Replayed) for step in what)


@given(st.lists(steps))
def test_whatever_has_happened_a_replay_and_the_stream_publish_it(what: list[HandoverStep]) -> None:
    assert after(*what, Replayed(), TakenIn(9)).state is HandoverState.PUBLISHED


@given(st.lists(steps), steps)
def test_what_is_told_twice_in_a_row_counts_once_but_for_refusals(
    what: list[HandoverStep], step: HandoverStep
) -> None:
    once = advance(after(*what), step)
    twice = advance(once, step)
    assert twice == once or isinstance(step, TurnedDown)


def test_an_event_that_the_stream_never_takes_is_put_aside_and_comes_back_by_a_replay() -> None:
    assert after(TurnedDown("too large", forever=True)).state is HandoverState.DEAD
    refusals = [TurnedDown("no")] * MOST_REFUSALS
    assert after(*refusals[1:]).state is HandoverState.ACCEPTED
    assert after(*refusals).state is HandoverState.DEAD
    assert after(*refusals, Replayed()) == Handover(replays=1)


def test_a_replay_has_a_name_of_its_own_and_what_the_stream_lost_has_not() -> None:
    assert message_id("e", after(TakenIn(1), Replayed()).replays) == "e.1"
    assert message_id("e", after(TakenIn(1), LostByStream()).replays) == "e"


@given(st.lists(st.floats(0, 1e10), min_size=1))
def test_a_clock_that_leaps_ages_events_by_hours_at_most(readings: list[float]) -> None:
    last = pruned_until(None, readings[0])
    for now in readings[1:]:
        found = pruned_until(last, now)
        assert last <= found <= last + MOST_PRUNED
        last = found


def test_a_clock_that_is_right_ages_events_by_its_time() -> None:
    assert pruned_until(100.0, 3700.0) == 3700.0
    assert pruned_until(100.0, 50.0) == 100.0


# --- rates


@given(
    st.floats(0.1, 1000), st.integers(1, 100),
    st.lists(st.floats(0, 10), min_size=1, max_size=200),
)  # fmt: skip
def test_no_more_are_let_through_than_the_rate_says(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    rate, bucket, now, taken = Rate(per_second, burst), Bucket(burst, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        drawn = draw(bucket, rate, now)
        bucket = drawn.bucket
        taken += drawn.wait == 0
        assert 0 <= bucket.tokens <= burst
        assert 0 <= drawn.wait <= 1 / per_second
    assert taken <= burst + now * per_second + 1e-6


def test_who_waits_as_long_as_told_is_let_through() -> None:
    rate = Rate(2.0, 1)
    drawn = draw(draw(Bucket(1, 0.0), rate, 0.0).bucket, rate, 0.1)
    assert drawn.wait == pytest.approx(0.4)
    assert draw(drawn.bucket, rate, 0.1 + drawn.wait).wait == 0


# --- tasks

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def task() -> AgentTask:
    return AgentTask(
        task_id=UUID(int=1), trace_id="a" * 32, agent=AgentKind.BACKEND_ARCHITECT,
        project="group/web", instruction="write a page", created_at=WHEN,
    )  # fmt: skip


moves = st.sampled_from(
    [
        lambda t: tasks.started(t, WHEN),
        tasks.put_back,
        lambda t: tasks.completed(t, WHEN, "https://f/7"),
        lambda t: tasks.failed(t, WHEN, "no time"),
    ]
)


@given(st.lists(moves))
def test_a_task_ends_once(what: list[object]) -> None:
    found, ends = task(), 0
    for move in what:
        try:
            found = move(found)  # type: ignore[operator]
        except ValueError:
            continue
        ends += found.status in {TaskStatus.COMPLETED, TaskStatus.FAILED}
        assert AgentTask.model_validate_json(found.model_dump_json()) == found
    assert ends <= 1


def test_a_task_counts_its_attempts() -> None:
    begun = tasks.started(task(), WHEN)
    again = tasks.started(tasks.put_back(begun), WHEN)
    assert (begun.attempt, again.attempt, again.status) == (1, 2, TaskStatus.RUNNING)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "completed"}, {"ended_at": WHEN}, {"status": "running"}, {"error": "x"},
        {"instruction": ""}, {"trace_id": "x"}, {"agent": "nobody"}, {"attempt": -1}, {"more": 1},
        {"schema_version": 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_task_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AgentTask.model_validate({**task().model_dump(), **changes})


def test_a_failure_says_why() -> None:
    with pytest.raises(ValueError, match="says why"):
        tasks.failed(task(), WHEN, "")


def test_deliveries_are_known_longer_than_their_events_are_kept() -> None:
    assert max(handover.RETENTION_DAYS.values()) < handover.KNOWN_DAYS
