"""A job, what happens to it, and what it then is. Nothing here knows where either is kept.

Three parties tell of one job, over a queue that may tell twice or lose its memory: so what has
happened already, and whatever comes after the end, changes nothing.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard, get_args

from rave_cli.errors import ExitCode, RaveError

# How a job ends: exactly one of these, once. `error`: whatever should have run it failed. The words
# are those of OpenTelemetry's cicd.pipeline.result, but for two that say what became of the job.
Ending = Literal["success", "failure", "error", "timeout", "cancelled", "skipped"]
JobState = Literal["waiting", "running", Ending]

ENDINGS: tuple[Ending, ...] = get_args(Ending)

NAME = re.compile(r"[0-9a-f]{12}")

# Bytes of a command: it is passed on in one line, which the guest bounds.
LONGEST_COMMAND = 64 << 10


@dataclass(frozen=True)
class Work:
    """What is asked for.

    Attributes:
        command: program and arguments. Never a secret: it is kept, shown and passed on.
        timeout: seconds that each attempt may take.
        retries: how often it is tried again after it failed or took too long.
        most_output: bytes of output that are kept of an attempt.
        expires: seconds since the epoch at which it is skipped if no attempt has begun; None never.
    """

    command: tuple[str, ...]
    timeout: float = 600.0
    retries: int = 0
    most_output: int = 1 << 20
    expires: float | None = None

    def __post_init__(self) -> None:
        if sum(len(word.encode(errors="surrogateescape")) for word in self.command) > (
            LONGEST_COMMAND
        ):
            raise RaveError(
                f"the command is longer than {LONGEST_COMMAND >> 10} KiB",
                hint="let it fetch what it needs, or put it into the image",
                exit_code=ExitCode.USAGE,
            )
        if any("\0" in word or not _is_text(word) for word in self.command):
            raise RaveError(
                "the command has a word that is no text",
                hint="encode it, and let the command decode it",
                exit_code=ExitCode.USAGE,
            )


@dataclass(frozen=True)
class AttemptFacts:
    """What the agent saw of an attempt that it brought to its end.

    Attributes:
        image: sha256 of the image that the machine was made from.
        template: digest of the template that it was started from.
        starting: seconds until its command began.
        ran: seconds from then to its end.
        printed: bytes on stdout and stderr that were passed on.
    """

    image: str = ""
    template: str = ""
    starting: float | None = None
    ran: float | None = None
    printed: tuple[int, int] = (0, 0)


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
        cancelling: whether somebody wants it cancelled.
        facts: of the attempt with which it ended.
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
    """An attempt came to nothing, and there is another, not before `until`."""

    at: float
    attempt: int
    until: float
    why: str
    failed: int
    lost: int


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
        )
    counted = replace(
        job,
        attempt=happening.attempt,
        failed=max(job.failed, happening.failed),
        lost=max(job.lost, happening.lost),
        why=happening.why,
    )
    if isinstance(happening, Postponed):
        return replace(counted, state="waiting", until=happening.until)
    return replace(
        counted,
        state=happening.ending,
        until=None,
        ended=happening.at,
        exit_status=happening.exit_status,
        facts=happening.facts,
    )


def is_ending(word: str) -> TypeGuard[Ending]:
    """Return whether a word is one of ENDINGS."""
    return word in ENDINGS


def new_name() -> str:
    """Return the name of a new job."""
    return secrets.token_hex(6)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
