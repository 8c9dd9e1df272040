"""What a pool does, as figures for Prometheus: read where it is served, or in a file.

Counters begin with the process that serves; what waits and runs is read from the store, in a time
that does not grow with it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Literal

from rave_cli.pool.jobs.job import ENDINGS, FAILED, RESULTS, is_ending
from rave_cli.pool.jobs.store import MOST_OPEN
from rave_cli.pool.served import FREE
from rave_cli.pool.serving import families
from rave_cli.pool.serving.families import PIPELINE, SYSTEM, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rave_cli.pool.jobs.job import Ending, Job
    from rave_cli.pool.jobs.store import JobStore
    from rave_cli.pool.served import HoldCode, ServingRecord

# Seconds between two files.
EVERY = 5.0

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# What keeps agents from taking jobs, where that is a fault: component and error.type.
_FAULTS: dict[HoldCode, tuple[str, str]] = {
    "template": ("controller", "template"),
    "queue": ("scheduler", "queue"),
}


class PoolMetrics:
    """The figures of one process that serves; any thread may use them. `pipeline` is the profile of
    its machines.
    """

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        pending: tuple[Ending | None, ...] = (None, "cancelled", "skipped", "error")
        self._pending = {ending: Histogram() for ending in pending}
        self._executing: dict[Ending | None, Histogram] = {
            ending: Histogram() for ending in ENDINGS if ending != "skipped"
        }
        self._started = Histogram()
        self._run_errors = Counter({"failure": 0, "timeout": 0})
        self._system_errors = Counter(dict.fromkeys(SYSTEM, 0))
        self._traces = Counter(dict.fromkeys(families.KNOWN["outcome"], 0))
        # The attempts that run, by their job.
        self._running: dict[str, int] = {}
        self._record: ServingRecord | None = None
        self._stood = 0.0

    def saw(self, job: Job) -> None:
        """Take in a job that is another than before."""
        with self._lock:
            before = self._running.pop(job.name, None)
            if job.state == "running":
                self._running[job.name] = job.attempt
                self._began(job, taken_over=before is not None and before < job.attempt)
            elif job.attempt:
                self._attempted(job, ran=before is not None)
            if job.over:
                self._ended(job)

    def _began(self, job: Job, *, taken_over: bool) -> None:
        self._system_errors["agent", "lost"] += taken_over
        if job.attempt == 1 and job.began is not None:
            self._pending[None].see(max(0.0, job.began - job.submitted))

    def _attempted(self, job: Job, *, ran: bool) -> None:
        """Count how the last attempt at a job came to its end, if that is news."""
        came, facts = job.facts.came, job.facts
        if facts.starting is not None:
            self._started.see(facts.starting)
        if came in self._run_errors:
            self._run_errors[came] += 1
        elif came == "error":
            stage = "restore" if facts.starting is None else "machine"
            self._system_errors["agent", stage] += 1
        elif not came and ran:
            self._system_errors["agent", "lost"] += 1

    def _ended(self, job: Job) -> None:
        if not is_ending(job.state) or job.ended is None:
            return
        if job.began is None or job.state not in self._executing:
            pending = self._pending.get(job.state)
            if pending is not None:
                pending.see(max(0.0, job.ended - job.submitted))
        else:
            self._executing[job.state].see(max(0.0, job.ended - job.began))

    def stands(self, record: ServingRecord) -> None:
        """Take in how whoever serves stands."""
        with self._lock:
            before = FREE if self._record is None else self._record.hold
            if record.hold.code != before.code and record.hold.code in _FAULTS:
                self._system_errors[_FAULTS[record.hold.code]] += 1
            self._record, self._stood = record, time.monotonic()

    def traces(self, outcome: Literal["exported", "dropped"], many: int) -> None:
        """Take in what became of so many traces."""
        with self._lock:
            self._traces[outcome] += many

    def text(self, store: JobStore) -> str:
        """Return all figures in Prometheus's text format (version 0.0.4)."""
        counts, dead, since = store.counts(), store.dead_count(), store.waiting_since()
        due = store.due_count()
        now = time.time()
        waited = 0.0 if since is None else max(0.0, now - since)
        with self._lock:
            told = [
                *self._active(counts),
                *self._durations(),
                *families.RUN_ERRORS.lines(
                    ({PIPELINE: self._pipeline, "error.type": kind}, count)
                    for kind, count in self._run_errors.items()
                ),
                *families.SYSTEM_ERRORS.lines(
                    ({"cicd.system.component": component, "error.type": kind}, count)
                    for (component, kind), count in self._system_errors.items()
                ),
                *self._standing(counts.get("running", 0)),
                *families.CAPACITY.lines([({}, MOST_OPEN)]),
                *families.DEAD.lines([({}, dead)]),
                *families.OLDEST.lines([({}, round(waited, 3))]),
                *families.STALLED.lines([({}, round(self._stalled(), 3))]),
                *families.TOLD.lines([({}, round(now, 3))]),
                *families.TRACES_DUE.lines([({}, due)]),
                *families.TRACES.lines(
                    ({"outcome": outcome}, count) for outcome, count in self._traces.items()
                ),
                *families.START.head(),
                *self._started.lines(families.START.name, {}),
            ]
        return "\n".join(told) + "\n"

    def _stalled(self) -> float:
        """Return how long nothing was heard of whoever serves, whose queue or disk hangs then."""
        return 0.0 if self._record is None else time.monotonic() - self._stood

    def _active(self, counts: Mapping[str, int]) -> Iterator[str]:
        states = (("pending", "waiting"), ("executing", "running"))
        return families.ACTIVE.lines(
            (
                {PIPELINE: self._pipeline, "cicd.pipeline.run.state": state},
                counts.get(ours, 0),
            )
            for state, ours in states
        )

    def _durations(self) -> Iterator[str]:
        yield from families.DURATION.head()
        seen = (("pending", self._pending), ("executing", self._executing))
        for state, histograms in seen:
            for ending, histogram in histograms.items():
                result = "" if ending is None else RESULTS[ending]
                said = {
                    PIPELINE: self._pipeline,
                    "cicd.pipeline.run.state": state,
                    "cicd.pipeline.result": result,
                    "error.type": result if result in FAILED else "",
                }
                yield from histogram.lines(families.DURATION.name, said)

    def _standing(self, busy: int) -> Iterator[str]:
        record = self._record
        hold = FREE if record is None else record.hold
        idle = 0 if record is None else max(0, record.agents - busy)
        workers = {
            "busy": busy,
            "available": 0 if hold.code else idle,
            "offline": idle if hold.code else 0,
        }
        yield from families.WORKERS.lines(
            ({"cicd.worker.state": state}, count) for state, count in workers.items()
        )
        yield from families.HOLD.lines(
            ({"reason": code}, hold.code == code) for code in families.KNOWN["reason"]
        )
        draining = record is not None and record.draining
        yield from families.DRAINING.lines([({}, draining)])
