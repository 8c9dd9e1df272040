"""The event log of a run: one JSON object per line, each carrying the sha256 of the line before.

The log is written and fsynced while the run goes on, so a run that dies leaves a file without its
end event, and such a file never verifies. A line's hash covers its raw bytes with the final
newline: `sed -n 7p FILE | sha256sum` is the `prev` of line 8.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from rave_cli.errors import ExitCode, RaveError
from rave_cli.paths import make_dir, refusing, sync_dir
from rave_cli.transcript.canonical import DamagedError, Json, line_bytes, parse_line, to_json
from rave_cli.transcript.redaction import Redactor
from rave_cli.transcript.refusal import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

SCHEMA = "rave-events@v1"
LARGEST = 64 << 20
GENESIS = "0" * 64
PHASE = "transcript"
BEGIN = "begin"
END = "end"
MEMBERS = ["seq", "prev", "time", "mono", "phase", "kind", "data"]

NONCE = re.compile(r"[A-Za-z0-9._:=+/-]{8,128}")

# Two runs may begin in the same second; more than this many are somebody's mistake.
SAME_SECOND = 100


@dataclass(frozen=True)
class Session:
    """Who a run is: its id, its nonce, when it began, and the common start of its file names."""

    id: str
    nonce: str
    started: datetime
    stem: str


@dataclass(frozen=True)
class Chain:
    """A complete event log: the hash of its last line, its length, and what its ends say."""

    head: str
    count: int
    session: str
    nonce: str
    started: str
    completed: str
    status: str


def utc_now() -> datetime:
    """Return the time of day, in UTC."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """Return `2026-01-24T14:30:52Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def checked_nonce(nonce: str) -> str:
    """Return a nonce that somebody chose.

    Raises:
        RaveError: USAGE if it is too short to be one, or has other characters than it may.
    """
    if NONCE.fullmatch(nonce) is None:
        raise RaveError(
            "a nonce is 8 to 128 letters, digits and any of . _ : = + / -",
            hint="openssl rand -hex 16",
            exit_code=ExitCode.USAGE,
        )
    return nonce


class EventLog:
    """An append-only, hash-chained log of one run. Use it as a context manager.

    Every event is on the disk when `append` returns. Leaving the context closes the file; only
    `rave_cli.transcript.write` writes the end event.
    """

    def __init__(
        self,
        path: Path,
        session: Session,
        fd: int,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        redactor: Redactor,
    ) -> None:
        self.path = path
        self.session = session
        self.redactor = redactor
        self.head = GENESIS
        self.count = 0
        self._fd = fd
        self._size = 0
        self._clock = clock
        self._monotonic = monotonic
        self._began = monotonic()
        self._lock = threading.Lock()

    @classmethod
    def begin(
        cls,
        directory: Path,
        *,
        nonce: str | None = None,
        redactor: Redactor | None = None,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Create `boot_transcript_<UTC stamp>.events.ndjson` in `directory` and begin the chain.

        Args:
            directory: where all files of the transcript will lie; created if needed.
            nonce: a challenge of whoever will verify the run; by default a random one.
            redactor: knows the values that must not be written; it may learn more on the way.
            clock: returns the time of day, in UTC.
            monotonic: returns seconds that never jump.

        Raises:
            RaveError: HOST if the disk is full or the place cannot be written; USAGE if `nonce` is
                no nonce.
        """
        started = clock()
        nonce = secrets.token_hex(16) if nonce is None else checked_nonce(nonce)
        make_dir(directory, mode=0o755)
        with refusing(directory):
            for attempt in range(1, SAME_SECOND):
                suffix = "" if attempt == 1 else f"-{attempt}"
                session = Session(
                    id=f"spinup-{started:%Y%m%d-%H%M%S}{suffix}",
                    nonce=nonce,
                    started=started,
                    stem=f"boot_transcript_{started:%Y%m%dT%H%M%SZ}{suffix}",
                )
                path = directory / f"{session.stem}.events.ndjson"
                with suppress(FileExistsError):
                    fd = _create(path)
                    break
            else:
                raise RaveError(
                    f"{directory} already holds {SAME_SECOND - 1} transcripts of this second",
                    hint="date; is the clock stuck?",
                    exit_code=ExitCode.HOST,
                )
        log = cls(
            path, session, fd,
            clock=clock, monotonic=monotonic, redactor=redactor or Redactor(),
        )  # fmt: skip
        log._write(PHASE, BEGIN, {"schema": SCHEMA, "session": session.id, "nonce": nonce})
        return log

    def append(self, phase: str, kind: str, data: Mapping[str, object] | None = None) -> str:
        """Write one event, redacted, to the disk and return the new head of the chain.

        Args:
            phase: the phase of the run it belongs to.
            kind: what happened, in a word; `begin` and `end` are the log's own.
            data: JSON data.

        Raises:
            RaveError: HOST if the disk is full; the log is closed then and cannot be completed.
        """
        if kind in (BEGIN, END):
            raise ValueError(f"an event of kind {kind!r} is written by the log itself")
        return self._write(phase, kind, data or {})

    def finish(self, status: str) -> Chain:
        """Write the end event, which carries the number of lines, and close the file.

        Raises:
            RaveError: HOST if the disk is full.
        """
        completed = self.now()
        self._write(PHASE, END, {"count": self.count + 1, "status": status}, completed)
        self.close()
        return Chain(
            head=self.head,
            count=self.count,
            session=self.session.id,
            nonce=self.session.nonce,
            started=timestamp(self.session.started),
            completed=timestamp(completed),
            status=status,
        )

    def now(self) -> datetime:
        """Return the time of day, but none before the run began."""
        return max(self._clock(), self.session.started)

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return self._monotonic() - self._began

    def close(self) -> None:
        """Close the file; what was appended stays, and nothing can be added."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(
        self,
        phase: str,
        kind: str,
        data: Mapping[str, object],
        moment: datetime | None = None,
    ) -> str:
        with self._lock:
            if self._fd < 0:
                raise RaveError(
                    f"the event log {self.path} is closed; the run cannot be recorded any further",
                    hint="rave smoke run",
                    exit_code=ExitCode.HOST,
                )
            now = moment or (self.now() if self.count else self.session.started)
            line = line_bytes(
                {
                    "seq": self.count + 1,
                    "prev": self.head,
                    "time": timestamp(now),
                    "mono": round(self.elapsed(), 3),
                    "phase": to_json(phase),
                    "kind": to_json(kind),
                    "data": self.redactor.value(data),
                }
            )
            try:
                self._put(line)
            except BaseException:
                # What is on the disk and what we know of it may differ from here on.
                with suppress(OSError):
                    os.ftruncate(self._fd, self._size)
                self.close()
                raise
            self.count += 1
            self.head = hashlib.sha256(line).hexdigest()
            return self.head

    def _put(self, line: bytes) -> None:
        """Write a whole line durably."""
        with refusing(self.path):
            left = memoryview(line)
            while left:
                left = left[os.write(self._fd, left) :]
            os.fsync(self._fd)
        self._size += len(line)


def read_chain(raw: bytes) -> Chain:
    """Check the bytes of an event log from the first line to the last.

    Raises:
        RefusedError: EVENTS if a line was changed, dropped, added, repeated or moved; TRUNCATED if
            the end is missing; UNKNOWN_VERSION if the log is of a kind this rave does not know.
    """
    if not raw.endswith(b"\n"):
        raise _truncated("the event log does not end with a whole line")
    lines = [line + b"\n" for line in raw[:-1].split(b"\n")]
    head = GENESIS
    events: list[dict[str, Json]] = []
    for number, line in enumerate(lines, start=1):
        events.append(_link(number, line, head))
        head = hashlib.sha256(line).hexdigest()
    first, last = events[0], events[-1]
    begin, end = _data(first, BEGIN), _data(last, END)
    if begin is None or begin.get("schema") != SCHEMA:
        raise RefusedError(
            Reason.UNKNOWN_VERSION,
            f"the event log does not begin as {SCHEMA} does",
            hint="verify it with the version of rave that wrote it",
        )
    if end is None:
        raise _truncated("the event log has no end event, so the run did not complete")
    if any(event["kind"] in (BEGIN, END) for event in events[1:-1]):
        raise _broken("the event log begins or ends more than once")
    if end.get("count") != len(lines):
        raise _broken(f"the event log has {len(lines)} lines, and its end names another number")
    return Chain(
        head=head,
        count=len(lines),
        session=str(begin.get("session")),
        nonce=str(begin.get("nonce")),
        started=str(first["time"]),
        completed=str(last["time"]),
        status=str(end.get("status")),
    )


def _link(number: int, line: bytes, head: str) -> dict[str, Json]:
    """Return the event on a line, which must be number `number` and follow `head`."""
    try:
        event = parse_line(line)
    except DamagedError as error:
        raise _broken(f"line {number} of the event log is damaged: {error}") from error
    if list(event) != MEMBERS:
        raise _broken(f"line {number} of the event log is not an event")
    if event["prev"] != head:
        raise _broken(f"line {number} of the event log does not follow the line before it")
    if event["seq"] != number:
        raise _broken(f"line {number} of the event log carries another number")
    return event


def _data(event: dict[str, Json], kind: str) -> dict[str, Json] | None:
    data = event["data"]
    return data if event["kind"] == kind and isinstance(data, dict) else None


def _broken(message: str) -> RefusedError:
    return RefusedError(
        Reason.EVENTS, message, hint="get the event log again from where the run was"
    )


def _truncated(message: str) -> RefusedError:
    return RefusedError(Reason.TRUNCATED, message, hint="rave smoke run")


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o644)
    sync_dir(path.parent)
    return fd
