"""A job, what happens to it, and what it then is. Nothing here knows where either is kept.

Three parties tell of one job, over a queue that may tell twice or lose its memory: so what has
happened already, and whatever comes after the end, changes nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, get_args

from rave_cli import shapes
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Mapping

# How a job ends: exactly one of these, once. `error`: whatever should have run it failed. The words
# are those of OpenTelemetry's cicd.pipeline.result, but for two that say what became of the job.
Ending = Literal["success", "failure", "error", "timeout", "cancelled", "skipped"]
JobState = Literal["waiting", "running", Ending]

ENDINGS: tuple[Ending, ...] = get_args(Ending)

NAME = re.compile(r"[0-9a-f]{12}")

# Bytes of a command: it is passed on in one line, which the guest bounds.
LONGEST_COMMAND = 64 << 10

# POSIX.1-2017, Environment Variables: what a shell can name.
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class JobInput:
    """A tar archive that is unpacked where the command runs, before it does.

    Attributes:
        sha256: of the archive, by which the pool keeps it.
        size: its bytes.
        origin: where it comes from, for people: a folder, a commit, standard input.
    """

    sha256: str
    size: int
    origin: str


@dataclass(frozen=True)
class Work:
    """What is asked for. None of it may be a secret: it is kept, shown and passed on.

    Attributes:
        command: program and arguments; those of the script, if there is one.
        timeout: seconds that each attempt may take.
        retries: how often it is tried again after it failed or took too long.
        most_output: bytes of output that are kept of an attempt.
        expires: seconds since the epoch at which it is skipped if no attempt has begun; None never.
        script: a program's text, which is run instead of a command; empty for none.
        environment: names and values.
        secrets: names of the operator's secrets that the command may read.
        given: what is laid out for it; None for nothing.
        artifacts: paths of what is kept of what the command leaves, below where it runs.
        most_artifacts: bytes of that; more is refused.
        most_disk: bytes that its machine may write to its disk.
    """

    command: tuple[str, ...]
    timeout: float = 600.0
    retries: int = 0
    most_output: int = 1 << 20
    expires: float | None = None
    script: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    given: JobInput | None = None
    artifacts: tuple[str, ...] = ()
    most_artifacts: int = 64 << 20
    most_disk: int = 8 << 30

    def __post_init__(self) -> None:
        if not self.command and not self.script:
            raise RaveError(
                "a job has a command or a script",
                hint="rave pool submit -- COMMAND; or rave pool submit --script FILE",
                exit_code=ExitCode.USAGE,
            )
        variables = [name for name, _ in self.environment]
        names = [*variables, *self.secrets, *self.artifacts]
        _check_words([*self.command, self.script, *names, *(text for _, text in self.environment)])
        _check_names(names)
        _check_variables(variables)
        _check_artifacts(self.artifacts)


@dataclass(frozen=True)
class Artifact:
    """A file that a job left: its path below where the command ran, bytes and sha256."""

    path: str
    size: int
    sha256: str


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
    """

    image: str = ""
    template: str = ""
    starting: float | None = None
    ran: float | None = None
    printed: tuple[int, int] = (0, 0)
    artifacts: tuple[Artifact, ...] = ()


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


def work_of(document: Mapping[str, Any]) -> Work:
    """Return the work that `work_document` made a document of; an older one says less.

    Raises:
        shapes.MisfitError: if it is none.
    """
    found: Work = shapes.read(Work, _LEAST | document)
    return found


def work_document(work: Work) -> dict[str, Any]:
    """Return work as JSON-ready values."""
    document: dict[str, Any] = shapes.plain(work)
    return document


def pair_of(text: str) -> tuple[str, str]:
    """Return the name and the value that `NAME=VALUE` is.

    Raises:
        RaveError: USAGE if it is none.
    """
    name, there, value = text.partition("=")
    if not there:
        raise _refused(f"{text!r} is no variable", "NAME=VALUE")
    return name, value


def script_of(data: bytes) -> str:
    """Return the text of a script.

    Raises:
        RaveError: USAGE if it is empty or no text.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text.strip():
        raise _refused("the script is empty, or no text in UTF-8", "--script FILE")
    # What does not say what runs it is run by the shell, as shells do.
    return text if text.startswith("#!") else f"#!/bin/sh\n{text}"


def _check_words(words: list[str]) -> None:
    if sum(len(word.encode(errors="surrogateescape")) for word in words) > LONGEST_COMMAND:
        raise RaveError(
            f"the command, its script and its environment are longer than"
            f" {LONGEST_COMMAND >> 10} KiB",
            hint="hand it over: rave pool submit --input FOLDER",
            exit_code=ExitCode.USAGE,
        )
    if any("\0" in word or not _is_text(word) for word in words):
        raise RaveError(
            "the command has a word that is no text",
            hint="encode it, and let the command decode it",
            exit_code=ExitCode.USAGE,
        )


def _check_names(names: list[str]) -> None:
    for name in names:
        if not name or not name.isprintable():
            raise _refused(f"{name!r} is no name that can be shown", "a name")


def _check_variables(names: list[str]) -> None:
    for name in names:
        if not VARIABLE.fullmatch(name) or name.startswith("RAVE_"):
            raise _refused(f"{name!r} is no name of a variable that a job may have", "NAME=VALUE")


def _check_artifacts(paths: tuple[str, ...]) -> None:
    for path in paths:
        if {"", ".", ".."} & set(path.split("/")):
            raise _refused(f"the artifact {path!r} is not below where the command runs", "PATH")
        if _above(paths, path):
            raise _refused(f"the artifact {path!r} is named twice", "PATH")


def _above(paths: tuple[str, ...], path: str) -> bool:
    """Return whether a path is among the others, or below one of them."""
    return sum(f"{path}/".startswith(f"{other}/") for other in paths) > 1


def _refused(why: str, form: str) -> RaveError:
    return RaveError(why, hint=f"give it as {form}", exit_code=ExitCode.USAGE)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


# What an older document does not say.
_LEAST = shapes.plain(Work(("-",)))


def withdrawn(job: Job, ending: str, why: str) -> Ended:
    """Return what happened to a job that nobody has taken from the queue."""
    if not is_ending(ending):
        raise ValueError(ending)
    return Ended(time.time(), job.attempt, ending, None, why, job.failed, job.lost)
