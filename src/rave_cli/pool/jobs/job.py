"""A job, what happens to it, and what it then is. Nothing here knows where either is kept.

Three parties tell of one job, over a queue that may tell twice or lose its memory: so what has
happened already, and whatever comes after the end, changes nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard, get_args

from rave_cli.pool.jobs import tracecontext
from rave_cli.pool.jobs.tracecontext import TraceContext
from rave_cli.pool.jobs.work import Work  # noqa: TC001 - read when the program runs

# How a job ends: exactly one of these, once. `error`: whatever should have run it failed. The words
# are those of OpenTelemetry's cicd.pipeline.result, but for two that say what became of the job.
Ending = Literal["success", "failure", "error", "timeout", "cancelled", "skipped"]
JobState = Literal["waiting", "running", Ending]

ENDINGS: tuple[Ending, ...] = get_args(Ending)

# What OpenTelemetry calls them (cicd.pipeline.result), and those that have an error.type there.
RESULTS: dict[Ending, str] = {
    "success": "success",
    "failure": "failure",
    "error": "error",
    "timeout": "timeout",
    "cancelled": "cancellation",
    "skipped": "skip",
}
FAILED = ("failure", "error", "timeout")

NAME = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Artifact:
    """A file that a job left: its path below where the command ran, bytes and sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class AttemptPhase:
    """What an attempt was at, in seconds after it began."""

    name: str
    began: float
    ended: float


@dataclass(frozen=True)
class AttemptFacts:
    """What the agent saw of an attempt that it brought to its end.

    Attributes:
        image: sha256 of the image that the machine was made from.
        template: digest of the template that it was started from.
        starting: seconds until its command began.
        ran: seconds from then to its end.
        printed: bytes on stdout and stderr that were passed on.
        artifacts: the files that were kept.
        executable: paths of those that are programs.
        cache: the attempt, as `job-attempt`, that left what was in its cache when it began; empty
            if there was nothing.
        cached: whether what it left there was kept.
        came: what came of it, as the agent says; empty if none has said so.
        phases: what it was at, in order.
    """

    image: str = ""
    template: str = ""
    starting: float | None = None
    ran: float | None = None
    printed: tuple[int, int] = (0, 0)
    artifacts: tuple[Artifact, ...] = ()
    cache: str = ""
    cached: bool = False
    came: str = ""
    phases: tuple[AttemptPhase, ...] = ()
    executable: tuple[str, ...] = ()


NO_FACTS = AttemptFacts()


@dataclass(frozen=True)
class Job:
    """A job as it is now. Times are seconds since the epoch.

    Attributes:
        name: 12 hex digits.
        work: what is asked for.
        submitted: when it was accepted.
        state: what it does, or how it ended.
        attempt: number of the last attempt that began, which its command is told, too.
        failed: how many attempts failed or took too long.
        lost: how many agents were lost with it.
        agent: who had it last.
        began: when the last attempt began.
        until: it is not tried again before.
        ended: when it ended.
        exit_status: of the command, in its last attempt; None if it did not come to its end.
        why: what there is to say of its state.
        lacking: names of secrets that it reads and that no host lends which took it since its last
            attempt; empty if it lacks none.
        cancelling: whether somebody wants it cancelled.
        facts: of the last attempt, once its agent has said what came of it.
        trace: id of the trace that it belongs to, in hex.
        owner: who submitted it: a user of the pool's host, or `token:NAME`; empty if an older rave
            took it in.
    """

    name: str
    work: Work
    submitted: float
    state: JobState = "waiting"
    attempt: int = 0
    failed: int = 0
    lost: int = 0
    agent: str = ""
    began: float | None = None
    until: float | None = None
    ended: float | None = None
    exit_status: int | None = None
    why: str = ""
    cancelling: bool = False
    facts: AttemptFacts = NO_FACTS
    owner: str = ""
    trace: str = ""
    lacking: str = ""

    @property
    def context(self) -> TraceContext:
        """The job's own span, of which all else that becomes of it is a part."""
        asked = tracecontext.parse(self.work.traceparent)
        span = tracecontext.span_id(self.trace, self.name)
        return TraceContext(self.trace, span, asked.flags if asked else 1)

    @property
    def asker(self) -> str:
        """The id of the span of whoever asked for it; empty if nobody said."""
        asked = tracecontext.parse(self.work.traceparent)
        return asked.span if asked and asked.trace == self.trace else ""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return is_ending(self.state)


@dataclass(frozen=True)
class Began:
    """An agent has begun an attempt."""

    at: float
    attempt: int
    agent: str


@dataclass(frozen=True)
class Postponed:
    """An attempt came to nothing, and there is another, not before `until`; or no attempt began,
    where secrets are `lacking` that the job reads.
    """

    at: float
    attempt: int
    until: float
    why: str
    failed: int
    lost: int
    facts: AttemptFacts = NO_FACTS
    lacking: str = ""


@dataclass(frozen=True)
class Ended:
    """It is over."""

    at: float
    attempt: int
    ending: Ending
    exit_status: int | None
    why: str
    failed: int
    lost: int
    facts: AttemptFacts = NO_FACTS


@dataclass(frozen=True)
class Printed:
    """An attempt printed `data` on `stream`, 1 or 2."""

    attempt: int
    stream: int
    data: bytes


@dataclass(frozen=True)
class Kept:
    """What is kept of a stream of output: how many bytes, and their sha256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Printout:
    """What is kept of the output of an attempt."""

    stdout: Kept
    stderr: Kept

    @property
    def streams(self) -> tuple[tuple[str, Kept], tuple[str, Kept]]:
        """Both, by their names."""
        return ("stdout", self.stdout), ("stderr", self.stderr)


Happening = Began | Postponed | Ended | Printed


def advance(job: Job, happening: Happening) -> Job:
    """Return a job after what happened to it; the same job if that is nothing new."""
    if job.over or isinstance(happening, Printed) or happening.attempt < job.attempt:
        return job
    if isinstance(happening, Began):
        if happening.attempt == job.attempt:
            return job
        return replace(
            job,
            state="running",
            attempt=happening.attempt,
            agent=happening.agent,
            began=happening.at,
            until=None,
            why="",
            lacking="",
            facts=NO_FACTS,
        )
    if isinstance(happening, Postponed) and happening.lacking:
        # What became of the attempt before is not said anew.
        return replace(job, state="waiting", until=happening.until, lacking=happening.lacking)
    counted = replace(
        job,
        attempt=happening.attempt,
        failed=max(job.failed, happening.failed),
        lost=max(job.lost, happening.lost),
        why=happening.why,
        facts=happening.facts,
    )
    if isinstance(happening, Postponed):
        return replace(counted, state="waiting", until=happening.until)
    return replace(
        counted,
        state=happening.ending,
        until=None,
        lacking="",
        ended=happening.at,
        exit_status=happening.exit_status,
    )


def is_ending(word: str) -> TypeGuard[Ending]:
    """Return whether a word is one of ENDINGS."""
    return word in ENDINGS


def new_name() -> str:
    """Return the name of a new job."""
    return secrets.token_hex(6)


def withdrawn(job: Job, ending: str, why: str) -> Ended:
    """Return what happened to a job that nobody has taken from the queue."""
    if not is_ending(ending):
        raise ValueError(ending)
    return Ended(time.time(), job.attempt, ending, None, why, job.failed, job.lost)
