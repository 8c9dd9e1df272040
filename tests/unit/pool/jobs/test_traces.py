"""Each job is a trace: its id is that of whoever asked, and its spans are a tree that says where
its time went and nothing of what it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli import app
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs import tracecontext
from rave_cli.pool.jobs.history import AttemptRecord, JobHistory
from rave_cli.pool.jobs.job import AttemptFacts, AttemptPhase, Began, Ended, Job, Postponed
from rave_cli.pool.jobs.spans import Span, trace_of
from rave_cli.pool.jobs.store import JobStore, open_store
from rave_cli.pool.jobs.tracecontext import TraceContext, parse
from rave_cli.pool.jobs.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The example of W3C Trace Context, 3.2.4.
ASKED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = f"{ASKED[:-1]}0"
SECRET = "hunter2"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "pool/jobs.sqlite") as found:
        yield found


def facts(came: str, *phases: tuple[str, float, float]) -> AttemptFacts:
    return AttemptFacts(came=came, phases=tuple(AttemptPhase(*one) for one in phases))


def tree(store: JobStore, name: str) -> list[tuple[str, str, str, float, float | None]]:
    """Return each span by its name, that of its parent, its error and its times."""
    spans = trace_of(store.history(store.load(name))).spans
    names = {span.id: span.name for span in spans}
    return [
        (one.name, names.get(one.parent, one.parent), one.error, one.began, one.ended)
        for one in spans
    ]


def test_a_context_is_read_as_w3c_says() -> None:
    found = parse(ASKED)
    assert found == TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)
    assert found.header == ASKED
    unsampled = parse(UNSAMPLED)
    assert unsampled is not None
    assert not unsampled.sampled
    # Of a newer version what this one knows; of the flags what it knows.
    assert parse(f"cc{ASKED[2:]}-more") == found
    assert parse(f"{ASKED[:-2]}ff") == found
    for bad in (
        "", ASKED.upper(), f"{ASKED}-more", f"{ASKED} ", f"ff{ASKED[2:]}", ASKED[3:],
        f"00-{'0' * 32}{ASKED[35:]}", f"{ASKED[:36]}{'0' * 16}-01", f"{ASKED}\n",
    ):  # fmt: skip
        assert parse(bad) is None, bad


@given(st.text())
def test_what_is_none_is_none(text: str) -> None:
    found = parse(text)
    assert found is None or parse(found.header) == found


def test_a_job_belongs_to_the_trace_of_whoever_asked_or_to_its_own(store: JobStore) -> None:
    asked, other, third = store.accept([Work(("a",), traceparent=ASKED), *[Work(("a",))] * 2])
    assert (asked.trace, asked.asker) == (ASKED[3:35], ASKED[36:52])
    assert other.trace != third.trace
    assert (len(other.trace), other.asker) == (32, "")
    context = parse(other.context.header)
    assert context == other.context
    with pytest.raises(RaveError, match="no trace context"):
        Work(("a",), traceparent=ASKED.upper())


def test_the_environment_says_of_which_trace_a_submission_is_a_part_unless_an_option_does(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submitted(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            app.main(["pool", "submit", *words, "--", "true"])
        return int(ended.value.code or 0)

    monkeypatch.setenv("TRACEPARENT", ASKED)
    assert submitted() == submitted("--traceparent", UNSAMPLED.replace("4bf9", "5bf9")) == 0
    # One that is none is as if there were none, and an option that is none a mistake.
    monkeypatch.setenv("TRACEPARENT", "nonsense")
    assert submitted() == 0
    assert submitted("--traceparent", "nonsense") == ExitCode.USAGE
    with open_store() as store:
        own, optional, environmental = store.newest(5)
    assert environmental.trace == ASKED[3:35]
    assert optional.trace.startswith("5bf9")
    assert own.asker == ""


def test_a_job_that_is_tried_again_belongs_to_the_same_asker(store: JobStore) -> None:
    jobs = store.accept([Work(("a",), traceparent=ASKED), Work(("a",))])
    store.record([(job.name, Ended(1, 0, "skipped", None, "", 0, 0)) for job in jobs])
    asked, own = store.retry(jobs)
    assert (asked.trace, asked.asker) == (jobs[0].trace, jobs[0].asker)
    assert own.trace != jobs[1].trace


def test_a_trace_leads_from_the_submission_to_the_result(store: JobStore) -> None:
    (job,) = store.accept([Work((SECRET,), environment=(("A", SECRET),), traceparent=ASKED)])
    store.queued([job.name])
    queued = store.history(job).enqueued
    assert queued is not None
    t = queued
    phases = (("restore", 0.0, 0.5), ("hand-over", 0.5, 0.6), ("command", 0.6, 2.6),
              ("remove", 2.6, 2.7))  # fmt: skip
    store.record([(job.name, Began(t + 1, 1, "host-1"))])
    assert tree(store, job.name)[-1] == ("attempt", "RUN", "", t + 1, None)
    store.record(
        [(job.name, Ended(t + 4, 1, "success", 0, SECRET, 0, 0, facts("success", *phases)))]
    )
    recorded = store.history(job).recorded
    assert recorded is not None
    assert tree(store, job.name) == [
        ("RUN", ASKED[36:52], "", job.submitted, t + 4),
        ("submit", "RUN", "", job.submitted, t),
        ("queue", "RUN", "", t, t + 1),
        ("attempt", "RUN", "", t + 1, t + 4),
        *((name, "attempt", "", t + 1 + began, t + 1 + ended) for name, began, ended in phases),
        # Of two clocks: none ends before it begins.
        ("result", "RUN", "", t + 4, max(recorded, t + 4)),
    ]
    found = trace_of(store.history(store.load(job.name)))
    assert found.spans[0].attributes == {
        "cicd.pipeline.action.name": "RUN",
        "cicd.pipeline.run.id": job.name,
        "cicd.pipeline.result": "success",
    }
    assert SECRET not in repr(found.spans)
    command = next(span for span in found.spans if span.name == "command")
    assert command.id == tracecontext.span_id(job.trace, job.name, 1, "command")


def test_each_attempt_is_told_with_what_it_broke_off_at(store: JobStore) -> None:
    (job,) = store.accept([Work(("a",))])
    broken = facts("error", ("restore", 0.0, 3.0), ("remove", 3.0, 3.5))
    slow = facts("timeout", ("restore", 0.0, 1.0), ("command", 1.0, 9.0), ("remove", 9.0, 9.5))
    store.record(
        [(job.name, Began(10, 1, "a")), (job.name, Postponed(14, 1, 15, "", 0, 1, broken))]
    )
    # The second one's agent is lost with it.
    store.record([(job.name, Began(16, 2, "b")), (job.name, Began(50, 3, "c"))])
    store.record([(job.name, Ended(60, 3, "timeout", None, "", 1, 2, slow))])
    spans = trace_of(store.history(store.load(job.name))).spans
    told = [(span.name, span.error) for span in spans if span.name != "submit"]
    assert told == [
        ("RUN", "timeout"),
        ("attempt", "error"), ("restore", "error"), ("remove", ""), ("back-off", ""),
        ("attempt", "lost"),
        ("attempt", "timeout"), ("restore", ""), ("command", "timeout"), ("remove", ""),
        ("result", ""),
    ]  # fmt: skip
    assert len({span.id for span in spans}) == len(spans)


def test_a_job_that_waits_again_has_a_span_that_goes_on(store: JobStore) -> None:
    (job,) = store.accept([Work(("a",))])
    store.record([(job.name, Began(10, 1, "a")),
                  (job.name, Postponed(14, 1, 15, "", 0, 1, facts("failure")))])  # fmt: skip
    assert tree(store, job.name)[-1][::4] == ("back-off", None)


times = st.floats(0, 1e6)
phases = st.lists(
    st.builds(AttemptPhase, st.sampled_from(["restore", "command", "remove"]), times, times),
    max_size=3, unique_by=lambda phase: phase.name,
)  # fmt: skip
records = st.lists(
    st.builds(
        AttemptRecord, st.integers(1, 4), st.text(), times, st.none() | times,
        st.sampled_from(["", "success", "failure", "error", "released"]), phases.map(tuple),
    ),
    unique_by=lambda one: one.attempt,
)  # fmt: skip


@given(records, st.none() | times, st.none() | times, st.none() | times, times)
def test_whatever_happened_is_a_tree(
    attempts: list[AttemptRecord],
    enqueued: float | None,
    recorded: float | None,
    ended: float | None,
    submitted: float,
) -> None:
    job = Job("0123456789ab", Work(("a",)), submitted, "waiting" if ended is None else "error",
              ended=ended, trace="1" * 32)  # fmt: skip
    spans = trace_of(JobHistory(job, enqueued, recorded, tuple(attempts))).spans
    known: dict[str, Span] = {}
    for span in spans:
        assert span.id not in known
        assert (span.parent in known) == bool(known)
        if span.parent:
            assert span.began >= known[span.parent].began
        assert span.ended is None or span.ended >= span.began
        known[span.id] = span


def test_only_what_is_over_and_was_sampled_is_exported_once(store: JobStore) -> None:
    done, runs, unsampled = store.accept(
        [Work(("a",)), Work(("a",)), Work(("a",), traceparent=UNSAMPLED)]
    )
    end = Ended(2, 1, "success", 0, "", 0, 0)
    store.record([(runs.name, Began(1, 1, "a"))], exports=True)
    store.record([(job.name, end) for job in (done, unsampled, done)], exports=True)
    ((number, name),) = store.due(10)
    assert name == done.name
    store.settled([number])
    store.record([(done.name, end)], exports=True)
    assert (store.due(10), store.due_count()) == ([], 0)
    # Where nobody names a collector nothing piles up.
    store.record([(runs.name, end)])
    assert store.due_count() == 0


def test_the_oldest_traces_beyond_a_number_are_dropped(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rave_cli.pool.jobs.history.MOST_DUE", 7)
    jobs = store.accept([Work(("a",))] * 10)
    assert store.drop_due() == 0
    with store._writing():
        store._db.executemany("INSERT INTO due (job) VALUES (?)", [(one.name,) for one in jobs])
    assert store.drop_due() == 3
    assert store.due(1)[0][1] == jobs[3].name
    assert store.drop_due() == 0
