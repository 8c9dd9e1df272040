"""What a job is asked for. None of it may be a secret: it is kept, shown and passed on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli import shapes
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs import tracecontext

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bytes of a command: it is passed on in one line, which the guest bounds.
LONGEST_COMMAND = 64 << 10

# MiB of memory and processors that a job may ask for. A template belongs to each size: few.
MEMORIES = (1024, 2048, 3072, 4096)
PROCESSORS = (1, 2)

# A place that a job may reach: a name (RFC 1123, 2.1) or an IPv4 address, and a port of TCP.
ALLOWED = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?:([0-9]{1,5})")
MOST_ALLOWED = 32

# What a cache may be called.
CACHE_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}")

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
        most_disk: bytes that its machine may write to its disks.
        memory_mib: MiB of memory of its machine, one of MEMORIES; None as whoever serves says.
        cpus: processors of it, one of PROCESSORS; None likewise.
        cache: key of the cache disk of its owner that it gets; empty for none.
        keeps_cache: whether what it leaves there is kept if it succeeds.
        allow: what it must reach, each as HOST:PORT; nothing else is there for it.
        traceparent: the span of whoever asks for it (W3C Trace Context); empty for none.
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
    memory_mib: int | None = None
    cpus: int | None = None
    cache: str = ""
    keeps_cache: bool = True
    allow: tuple[str, ...] = ()
    traceparent: str = ""

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
        _check_size(self.memory_mib, self.cpus)
        if self.cache and not CACHE_KEY.fullmatch(self.cache):
            raise _refused(f"{self.cache!r} is no key of a cache", "letters, digits and ._:@/-")
        _check_allowed(self.allow)
        if self.traceparent and tracecontext.parse(self.traceparent) is None:
            raise _refused(
                f"{self.traceparent[:64]!r} is no trace context", "00-TRACE-SPAN-FLAGS, in hex"
            )


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


def work_said(work: Work) -> dict[str, Any]:
    """Return work as it is signed for and compared: what an older rave did not know of is left out
    where it asks for nothing, so that what was said then is said so still.
    """
    return {
        name: value
        for name, value in work_document(work).items()
        if name not in _LATER or value != _LEAST[name]
    }


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


def check_place(place: str) -> None:
    """Refuse what is no HOST:PORT.

    Raises:
        RaveError: USAGE.
    """
    found = ALLOWED.fullmatch(place)
    if found is None or not 0 < int(found[1]) < 65536:
        raise _refused(f"{place!r} is no place that a job could reach", "HOST:PORT")


def _check_allowed(places: tuple[str, ...]) -> None:
    for place in places:
        check_place(place)
    if len(places) > MOST_ALLOWED or len({*places}) < len(places):
        raise _refused(f"a job reaches up to {MOST_ALLOWED} places, each named once", "HOST:PORT")


def _check_size(memory_mib: int | None, cpus: int | None) -> None:
    for value, there, what in (
        (memory_mib, MEMORIES, "MiB of memory"),
        (cpus, PROCESSORS, "processors"),
    ):
        if value is not None and value not in there:
            raise _refused(f"no machine of a job has {value} {what}", " or ".join(map(str, there)))


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


# What an older document does not say, and what came after the first proofs were signed.
_LEAST = shapes.plain(Work(("-",)))
_LATER = {"memory_mib", "cpus", "cache", "keeps_cache", "allow", "traceparent"}
