"""The audit log: who did what through rave on this host, one JSON object per line.

Each line carries the sha256 of the line before, as the events of a transcript do, so what was
changed, dropped or put in between shows. Whoever owns the file can still write all of it anew:
a head that was noted elsewhere (`rave audit verify --head`) shows that, too.

A command has a line when it begins and one when it ends; one that was killed has no second. Values
of options and the words of commands for a guest may be secrets, and are not in it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pwd
import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from rave_cli import paths, shapes, signals
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

GENESIS = "0" * 64
Kind = Literal["begin", "end"]
# Bytes; `AuditedCommand.of` keeps to it.
LONGEST_LINE = 64 * 1024
LONGEST_WORD = 128  # characters
MOST_WORDS = 32
# What the kernel says where nobody logged in: a service, a container (audit(7), loginuid).
NO_LOGIN = 0xFFFFFFFF


class ChangedLogError(RaveError):
    """The audit log is not as rave wrote it."""

    reason = "audit-changed"

    def __init__(self, place: Path, why: str) -> None:
        super().__init__(
            f"the audit log {place} was changed: {why}",
            hint=f"mv {place} {place}.changed; the next command begins a new one",
            exit_code=ExitCode.VERIFICATION,
        )


@dataclass(frozen=True)
class Who:
    """Who runs a command: the user it acts as, and the one that logged in, if anybody did."""

    user: str
    login: str | None
    terminal: str | None


@dataclass(frozen=True)
class AuditedCommand:
    """A command as the audit log tells it.

    Args:
        verb: its words: `vm stop`.
        subjects: what it was to act on: names of machines, secrets, accounts, paths.
        options: the names of the options that were given.
    """

    verb: str
    subjects: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, verb: str, subjects: Iterable[str], options: Iterable[str]) -> Self:
        """Return it, each word no longer and no more words than a line has room for."""
        rest = (tuple(map(_short, islice(words, MOST_WORDS))) for words in (subjects, options))
        return cls(verb, *rest)


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One line.

    Args:
        seq: counts from 1.
        time: the time of day, in UTC, as text.
        kind: what of the command it tells.
        id: the same in both lines of one command.
        exit_code: what the command ended with, in its end.
        seconds: how long it took, in its end.
    """

    seq: int
    time: str
    kind: Kind
    id: str
    who: Who
    told: AuditedCommand
    exit_code: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class AuditLog:
    """All of it; the heads are the sha256 of each line."""

    entries: tuple[AuditEntry, ...] = ()
    heads: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """The sha256 of the last line, which stands for all before it."""
        return self.heads[-1] if self.heads else GENESIS


@dataclass(frozen=True)
class Performed:
    """A command that was begun; what was killed has no end, nor what became another program."""

    begin: AuditEntry
    end: AuditEntry | None

    def concerns(self, name: str) -> bool:
        """Return whether it was to act on something of that name."""
        told = self.begin.told
        values = (option.partition("=")[2] for option in told.options)
        return name in {*told.subjects, *values, *(s.partition(":")[0] for s in told.subjects)}


@dataclass
class UnderWay:
    """A command under way, and what it ends with."""

    exit_code: int = 0


def log_file() -> Path:
    """Return where the log of this user is."""
    return paths.state_dir() / "audit.ndjson"


# --- writing -------------------------------------------------------------------------------------


@contextmanager
def attempt(told: AuditedCommand, warn: Callable[[str], None]) -> Iterator[UnderWay]:
    """Tell the audit log of a command that is carried out meanwhile.

    Where the log cannot be written, `warn` hears of it, and the command is carried out all the
    same: whoever has to stop a machine on a full disk must be able to.
    """
    name, caller, began = secrets.token_hex(6), who(), time.monotonic()
    under_way = UnderWay()

    def tell(kind: Kind, **ended: Any) -> bool:  # noqa: ANN401 - members of AuditEntry
        try:
            _append(kind=kind, id=name, who=caller, told=told, **ended)
        except RaveError as error:
            warn(f"not in the audit log: {error.message}")
            return False
        return True

    begun = tell("begin")
    try:
        yield under_way
    finally:
        if begun:
            with signals.held():
                seconds = round(time.monotonic() - began, 3)
                tell("end", exit_code=under_way.exit_code, seconds=seconds)


def who() -> Who:
    """Return who runs us, as far as the kernel and the user database know."""
    try:
        login = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        login = NO_LOGIN
    return Who(
        user=_name(os.getuid()),
        login=None if login == NO_LOGIN else _name(login),
        terminal=next((os.ttyname(fd) for fd in (0, 1, 2) if _is_terminal(fd)), None),
    )


def _short(word: str) -> str:
    """Return the beginning of a word, without bytes that are no text (PEP 383)."""
    whole = word.encode("utf-8", "replace").decode()
    return whole if len(whole) <= LONGEST_WORD else f"{whole[:LONGEST_WORD]}…"


def _is_terminal(fd: int) -> bool:
    with suppress(OSError):
        return os.isatty(fd) and bool(os.ttyname(fd))
    return False


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _append(**members: Any) -> None:  # noqa: ANN401 - members of AuditEntry
    """Write a line behind the last and make it durable.

    Raises:
        RaveError: HOST if it cannot be written; nothing of it is left then.
    """
    place = log_file()
    paths.private_dir(place.parent)
    with paths.refusing(place):
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(place, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            end = os.pread(fd, LONGEST_LINE, max(0, size - LONGEST_LINE))
            # Somebody cut the last line short: that shows, and takes no line of ours with it.
            gap = b"" if not end or end.endswith(b"\n") else b"\n"
            seq, prev = _behind(end + gap)
            moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            line = _line(AuditEntry(seq=seq, time=moment, **members), prev)
            try:
                _write(fd, gap + line)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)


def _write(fd: int, line: bytes) -> None:
    """Write a line to the disk; a part of it is a fault."""
    if os.write(fd, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fdatasync(fd)


def _behind(end: bytes) -> tuple[int, str]:
    """Return number and `prev` of the line behind the last of those in `end`.

    Whatever stands there is not judged here: the next reader tells what is wrong with it.
    """
    if not end:
        return 1, GENESIS
    last = end.splitlines(keepends=True)[-1]
    try:
        seq = int(json.loads(last)["seq"])
    except (ValueError, TypeError, LookupError):
        seq = 0
    return seq + 1, hashlib.sha256(last).hexdigest()


def _line(entry: AuditEntry, prev: str) -> bytes:
    """Return the canonical form of a line, as `transcript.canonical` has it."""
    members = {"prev": prev, **shapes.plain(entry)}
    return json.dumps(members, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


# --- reading -------------------------------------------------------------------------------------


def read() -> AuditLog:
    """Return the whole log, checked from its first line to its last.

    Raises:
        ChangedLogError: if a line was changed, dropped, added or moved.
        RaveError: HOST if it cannot be read, or somebody else may have written it.
    """
    place = log_file()
    if not place.exists():
        return AuditLog()
    entries: list[AuditEntry] = []
    heads: list[str] = []
    for number, line in enumerate(paths.read_trusted(place).splitlines(keepends=True), start=1):
        entries.append(_entry(place, number, line, heads[-1] if heads else GENESIS))
        heads.append(hashlib.sha256(line).hexdigest())
    return AuditLog(tuple(entries), tuple(heads))


def commands(entries: Sequence[AuditEntry]) -> list[Performed]:
    """Return the commands that the lines tell of, in the order in which they began."""
    found = {entry.id: Performed(entry, None) for entry in entries if entry.kind == "begin"}
    for entry in entries:
        if entry.kind == "end" and entry.id in found:
            found[entry.id] = Performed(found[entry.id].begin, entry)
    return list(found.values())


def require_head(log: AuditLog, head: str) -> None:
    """Refuse a log that does not go on from a head that was noted before.

    Raises:
        ChangedLogError: if it has no such line.
    """
    if head.lower() not in (GENESIS, *log.heads):
        raise ChangedLogError(log_file(), f"no line of it has the sha256 {head}")


def _entry(place: Path, number: int, line: bytes, head: str) -> AuditEntry:
    from rave_cli.transcript.canonical import DamagedError, parse_line

    try:
        members = parse_line(line)
        previous = members.pop("prev", None)
        entry: AuditEntry = shapes.read(AuditEntry, members)
    except DamagedError as error:
        raise ChangedLogError(place, f"line {number}: {error}") from error
    except shapes.MisfitError as error:
        raise ChangedLogError(place, f"line {number}: {error.faults[0]}") from error
    if previous != head:
        raise ChangedLogError(place, f"line {number} does not follow the one before it")
    if entry.seq != number:
        raise ChangedLogError(place, f"line {number} carries the number {entry.seq}")
    return entry
