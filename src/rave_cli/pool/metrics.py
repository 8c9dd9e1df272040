"""What a pool does, as figures for Prometheus: a file that its node exporter collects.

The names are those of OpenTelemetry's conventions for CI/CD, as Prometheus spells them
(https://opentelemetry.io/docs/specs/semconv/cicd/cicd-metrics/); those of `rave_pool_` have none
there. Counters begin with the process that serves; what waits and runs is read from the store.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from rave_cli.pool.jobs import ENDINGS, is_ending
from rave_cli.pool.served import HoldCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rave_cli.pool.jobs import Ending, Job
    from rave_cli.pool.jobstore import JobStore
    from rave_cli.pool.served import ServingRecord

# Seconds between two files.
EVERY = 10.0

DURATION = "cicd_pipeline_run_duration_seconds"
BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

# What OpenTelemetry calls the ways to end.
RESULTS: dict[Ending, str] = {
    "success": "success",
    "failure": "failure",
    "error": "error",
    "timeout": "timeout",
    "cancelled": "cancellation",
    "skipped": "skip",
}


@dataclass
class Histogram:
    """How many values were at most so large, how many there were and their sum."""

    counts: Counter[float] = field(default_factory=Counter)
    count: int = 0
    total: float = 0.0

    def see(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        self.total += value
        self.counts.update(bound for bound in BUCKETS if value <= bound)

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Yield its lines; `labels` stand first in the braces."""
        comma = "," if labels else ""
        for bound in BUCKETS:
            yield f'{name}_bucket{{{labels}{comma}le="{bound:g}"}} {self.counts[bound]}'
        yield f'{name}_bucket{{{labels}{comma}le="+Inf"}} {self.count}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self.total:.6f}"
        yield f"{name}_count{braces} {self.count}"


class PoolMetrics:
    """The figures of one process that serves."""

    def __init__(self) -> None:
        self._ran = {ending: Histogram() for ending in ENDINGS}
        self._waited, self._started = Histogram(), Histogram()
        self._lost = 0

    def saw(self, job: Job) -> None:
        """Take in a job that is another than before."""
        if job.state == "running" and job.attempt == 1 and job.began is not None:
            self._waited.see(max(0.0, job.began - job.submitted))
        if not job.over:
            return
        self._lost += job.lost
        if job.facts.starting is not None:
            self._started.see(job.facts.starting)
        if is_ending(job.state) and job.ended is not None:
            self._ran[job.state].see(max(0.0, job.ended - job.submitted))

    def text(self, store: JobStore, record: ServingRecord) -> str:
        """Return all figures as the file has them."""
        running, oldest = len(store.running()), store.oldest()
        waited = time.time() - oldest.submitted if oldest is not None else 0.0
        lines = [
            *_family(
                "cicd_pipeline_run_active", "gauge", "Jobs that are not over.",
                "cicd_pipeline_run_state",
                {"pending": store.counts().get("waiting", 0), "executing": running},
            ),
            *_family(
                "cicd_worker_count", "gauge", "Agents.", "cicd_worker_state",
                {"busy": running, "available": max(0, record.agents - running)},
            ),
            *_family(
                "cicd_system_errors_total", "counter", "Attempts whose agent or machine was lost.",
                "cicd_system_component", {"agent": self._lost},
            ),
            *_family(
                "rave_pool_hold", "gauge", "Whether this keeps agents from taking jobs.", "reason",
                {code: int(record.hold.code == code) for code in get_args(HoldCode) if code},
            ),
            *_single("rave_pool_dead", "Jobs that were given up.", len(store.dead(1000))),
            *_single("rave_pool_draining", "Whether no job begins.", int(record.draining)),
            *_single("rave_pool_oldest_waiting_seconds", "How long a job waits.", f"{waited:.3f}"),
            *_head(DURATION, "histogram", "From submission to the end."),
        ]  # fmt: skip
        for ending, ran in self._ran.items():
            label = f'cicd_pipeline_result="{RESULTS[ending]}"'
            lines += ran.lines(DURATION, label)
        for name, seen, told in (
            ("rave_pool_wait_seconds", self._waited, "From submission to the first attempt."),
            ("rave_pool_start_seconds", self._started, "Until the command began."),
        ):
            lines += [*_head(name, "histogram", told), *seen.lines(name, "")]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"


def _family(
    name: str, kind: str, told: str, label: str, values: Mapping[str, int]
) -> Iterator[str]:
    yield from _head(name, kind, told)
    for value, number in values.items():
        yield f'{name}{{{label}="{value}"}} {number}'


def _single(name: str, told: str, value: int | str) -> Iterator[str]:
    yield from _head(name, "gauge", told)
    yield f"{name} {value}"
