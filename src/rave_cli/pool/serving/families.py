"""The figures that whoever serves gives Prometheus: what each is called and may say of itself.

Names are OpenTelemetry's, translated as its specification says (Prometheus and OpenMetrics
Compatibility, "OTLP Metric points to Prometheus"); those that begin with `cicd.` are of its
conventions for CI/CD, 1.44 (https://opentelemetry.io/docs/specs/semconv/cicd/cicd-metrics/), the
others have none there. Each label has the values that stand here and no other: what a job is
called, what it runs and who asked for it is in none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from rave_cli.pool.jobs.job import ENDINGS, RESULTS
from rave_cli.pool.served import HoldCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Instrument = Literal["counter", "gauge", "histogram"]

# Of UCUM, as far as they stand here; what is in braces is dropped.
UNITS = {"s": "seconds"}

# Seconds.
BUCKETS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

# What a label may be, whose values are known before.
PIPELINE = "cicd.pipeline.name"
KNOWN: dict[str, tuple[str, ...]] = {
    PIPELINE: ("the profile of the machines",),
    "cicd.pipeline.run.state": ("pending", "executing"),
    "cicd.pipeline.result": tuple(RESULTS[ending] for ending in ENDINGS),
    "cicd.worker.state": ("available", "busy", "offline"),
    "cicd.system.component": ("agent", "controller", "scheduler"),
    "error.type": (
        "failure",
        "error",
        "timeout",
        "lost",
        "restore",
        "machine",
        "template",
        "queue",
    ),
    "outcome": ("exported", "dropped"),
    "reason": tuple(code for code in get_args(HoldCode) if code),
}


@dataclass(frozen=True)
class MetricFamily:
    """A figure.

    Attributes:
        otel: its name as OpenTelemetry spells it.
        instrument: what it is to Prometheus.
        unit: of UCUM; a counted thing in braces.
        about: what it says.
        labels: the attributes that tell its values apart, as OpenTelemetry spells them.
    """

    otel: str
    instrument: Instrument
    unit: str
    about: str
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name as Prometheus has it."""
        stem, word = spelled(self.otel), UNITS.get(self.unit, "")
        if word and not stem.endswith(f"_{word}"):
            stem += f"_{word}"
        return f"{stem}_total" if self.instrument == "counter" else stem

    def head(self) -> Iterator[str]:
        """Yield the lines that say what it is."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} {self.instrument}"

    def lines(self, values: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
        """Yield it with each of its values; what a label does not say stays away."""
        yield from self.head()
        for said, value in values:
            yield f"{self.name}{braces(said)} {value:.15g}"


@dataclass
class Histogram:
    """How many values were at most so large, how many there were and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))
    count: int = 0
    total: float = 0.0

    def see(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        self.total += value
        for number, bound in enumerate(BUCKETS):
            self.counts[number] += value <= bound

    def lines(self, name: str, said: Mapping[str, str]) -> Iterator[str]:
        """Yield its lines, with these labels."""
        for bound, count in zip(BUCKETS, self.counts, strict=True):
            yield f"{name}_bucket{braces(said, f'{bound:g}')} {count}"
        yield f"{name}_bucket{braces(said, '+Inf')} {self.count}"
        yield f"{name}_sum{braces(said)} {self.total:.6f}"
        yield f"{name}_count{braces(said)} {self.count}"


DURATION = MetricFamily(
    "cicd.pipeline.run.duration", "histogram", "s",
    "How long jobs were in a state: pending until the first attempt began, executing from the last"
    " attempt's begin to the end.",
    (PIPELINE, "cicd.pipeline.run.state", "cicd.pipeline.result", "error.type"),
)  # fmt: skip
ACTIVE = MetricFamily(
    "cicd.pipeline.run.active", "gauge", "{run}", "Jobs that are not over.",
    (PIPELINE, "cicd.pipeline.run.state"),
)  # fmt: skip
WORKERS = MetricFamily(
    "cicd.worker.count", "gauge", "{worker}",
    "Agents of whoever serves; those that something keeps from taking jobs are offline.",
    ("cicd.worker.state",),
)  # fmt: skip
RUN_ERRORS = MetricFamily(
    "cicd.pipeline.run.errors", "counter", "{error}", "Attempts that failed or took too long.",
    (PIPELINE, "error.type"),
)  # fmt: skip
SYSTEM_ERRORS = MetricFamily(
    "cicd.system.errors", "counter", "{error}",
    "What went wrong around jobs: a machine that did not come up (restore) or was lost (machine),"
    " an agent that was lost, a template that could not be made, a queue that did not answer.",
    ("cicd.system.component", "error.type"),
)  # fmt: skip
START = MetricFamily(
    "rave.pool.start", "histogram", "s",
    "From when an agent has a job until its command began.",
)  # fmt: skip
HOLD = MetricFamily(
    "rave.pool.hold", "gauge", "", "Whether this keeps agents from taking jobs.", ("reason",)
)
DEAD = MetricFamily(
    "rave.pool.dead", "gauge", "{job}", "Jobs that were given up and that nobody has dealt with."
)
DRAINING = MetricFamily("rave.pool.draining", "gauge", "", "Whether no job begins.")
OLDEST = MetricFamily(
    "rave.pool.oldest.waiting", "gauge", "s",
    "How long a job waits that waits longest; of one that is tried again, since its time came.",
)  # fmt: skip
CAPACITY = MetricFamily(
    "rave.pool.capacity", "gauge", "{job}", "Jobs that may wait and run; more are refused."
)
TOLD = MetricFamily(
    "rave.pool.told.timestamp", "gauge", "s",
    "When these figures were written, since the epoch: of a file that grows old nobody serves.",
)  # fmt: skip

STALLED = MetricFamily(
    "rave.pool.stalled", "gauge", "s",
    "How long ago jobs were last carried between the store and the queue.",
)  # fmt: skip
TRACES_DUE = MetricFamily(
    "rave.pool.traces.due", "gauge", "{trace}", "Traces that wait for the collector."
)
TRACES = MetricFamily(
    "rave.pool.traces", "counter", "{trace}",
    "Traces that the collector took (exported), or that it refused or did not take in time"
    " (dropped).",
    ("outcome",),
)  # fmt: skip

FAMILIES = (
    ACTIVE, DURATION, RUN_ERRORS, SYSTEM_ERRORS, WORKERS,
    CAPACITY, DEAD, DRAINING, HOLD, OLDEST, STALLED, START, TOLD, TRACES_DUE, TRACES,
)  # fmt: skip

# What goes wrong around jobs, as component and error.type.
SYSTEM = (
    ("agent", "lost"), ("agent", "machine"), ("agent", "restore"), ("controller", "template"),
    ("scheduler", "queue"),
)  # fmt: skip


def spelled(name: str) -> str:
    """Return a name of OpenTelemetry with the characters of Prometheus."""
    return re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_:]", "_", name))


def braces(said: Mapping[str, str], bound: str | None = None) -> str:
    """Return labels and their values in braces; `bound` is that of a bucket."""
    words = [f'{spelled(label)}="{_escaped(value)}"' for label, value in said.items() if value]
    words += [] if bound is None else [f'le="{bound}"']
    return f"{{{','.join(words)}}}" if words else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
