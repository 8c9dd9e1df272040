"""A job as a trace: a tree of spans, named after OpenTelemetry's conventions for CI/CD, 1.44
(https://opentelemetry.io/docs/specs/semconv/cicd/cicd-spans/).

What a job runs, what it is given and why it failed is in none: that is for whoever may look at the
pool, and a trace goes to others.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read when the program runs
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rave_cli.pool.jobs.job import FAILED, RESULTS, Job, is_ending
from rave_cli.pool.jobs.tracecontext import span_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.jobs.history import AttemptRecord, JobHistory

# What became of an attempt in OpenTelemetry's words; one that was given back has none of its own.
_CAME = {"cancelled": "cancellation", "released": "cancellation"}


@dataclass(frozen=True)
class Span:
    """A part of what became of a job.

    Attributes:
        id: of it, in hex.
        parent: id of the span that it is a part of; of the first, of whoever asked; else empty.
        name: what it is.
        began: seconds since the epoch.
        ended: likewise; None if it goes on.
        error: what kind of error it ended with; empty for none.
        attributes: what there is to say of it.
    """

    id: str
    parent: str
    name: str
    began: float
    ended: float | None
    error: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobTrace:
    """The trace of a job, and its spans: the first is the job's own, parts come after the whole."""

    job: Job
    trace: str
    spans: tuple[Span, ...]


def trace_of(history: JobHistory) -> JobTrace:
    """Return the trace of a job as far as it has come."""
    whole = _whole(history)
    parts = [*_handed_over(history), *_attempts(history)]
    if history.job.ended is not None:
        parts.append(_Part(("result",), "result", history.job.ended, history.recorded))
    spans = [
        span for part in parts for span in part.spans(history.job.trace, history.job.name, whole)
    ]
    return JobTrace(history.job, history.job.trace, (whole, *spans))


@dataclass(frozen=True)
class _Part:
    """A span that has no id yet: `key` tells it from the job's others."""

    key: tuple[object, ...]
    name: str
    began: float
    ended: float | None
    error: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[_Part, ...] = ()

    def spans(self, trace: str, job: str, parent: Span) -> Iterator[Span]:
        """Yield it as a span below another, and its parts below that. Clocks of two hosts may
        differ: none begins before what it is a part of, or ends before it begins.
        """
        began = max(self.began, parent.began)
        ended = None if self.ended is None else max(self.ended, began)
        span = Span(
            span_id(trace, job, *self.key), parent.id, self.name, began, ended, self.error,
            self.attributes,
        )  # fmt: skip
        yield span
        for part in self.parts:
            yield from part.spans(trace, job, span)


def _whole(history: JobHistory) -> Span:
    job = history.job
    said = {"cicd.pipeline.action.name": "RUN", "cicd.pipeline.run.id": job.name}
    error = ""
    if is_ending(job.state):
        said["cicd.pipeline.result"] = RESULTS[job.state]
        error = job.state if job.state in FAILED else ""
    found = Span(job.context.span, job.asker, "RUN", job.submitted, job.ended, error, said)
    if job.ended is None:
        return found
    return replace(found, ended=max(job.ended, history.recorded or 0.0, job.submitted))


def _handed_over(history: JobHistory) -> Iterator[_Part]:
    """Yield what comes before the first attempt."""
    job = history.job
    first = history.attempts[0].began if history.attempts else job.ended
    yield _Part(("submit",), "submit", job.submitted, history.enqueued or first)
    if history.enqueued is not None:
        yield _Part(("queue", 0), "queue", history.enqueued, first)


def _attempts(history: JobHistory) -> Iterator[_Part]:
    """Yield each attempt, and the time in which the job waited for the next one."""
    for number, one in enumerate(history.attempts, 1):
        after = history.attempts[number].began if number < len(history.attempts) else None
        lost = one.ended is None and (after is not None or history.job.ended is not None)
        ended = (after or history.job.ended) if lost else one.ended
        yield _attempt(one, ended, lost=lost)
        if ended is not None and not lost and (after is not None or not history.job.over):
            yield _Part(("queue", one.attempt), "back-off", ended, after)


def _attempt(one: AttemptRecord, ended: float | None, *, lost: bool) -> _Part:
    result = "error" if lost else _CAME.get(one.came, one.came)
    error = "lost" if lost else one.came if one.came in FAILED else ""
    said = {
        "cicd.pipeline.task.name": "attempt",
        "cicd.pipeline.task.run.id": str(one.attempt),
        "cicd.worker.id": one.agent,
        **({"cicd.pipeline.task.run.result": result} if result else {}),
    }
    parts = tuple(
        _Part(
            (one.attempt, phase.name), phase.name, one.began + phase.began,
            one.began + phase.ended,
        )
        for phase in one.phases
    )  # fmt: skip
    if error and parts:
        # What it was at when it broke off; its machine is removed in any case.
        at = max((n for n, part in enumerate(parts) if part.name != "remove"), default=0)
        parts = (*parts[:at], replace(parts[at], error=error), *parts[at + 1 :])
    return _Part((one.attempt,), "attempt", one.began, ended, error, said, parts)
