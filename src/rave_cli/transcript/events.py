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
from typing import TYPE_CHECKING, Literal, Self, cast

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.paths import make_dir, refusing, sync_dir
from rave_cli.transcript.canonical import DEEPEST_DATA, Json, line_bytes, to_json
from rave_cli.transcript.chain import (
    ABORT,
    BEGIN,
    CHECK,
    DIGEST,
    END,
    FACTS,
    GENESIS,
    KINDS,
    SUBJECT,
    ChainEnds,
)
from rave_cli.transcript.formats import CURRENT
from rave_cli.transcript.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from rave_cli.transcript.check import CheckResult
    from rave_cli.transcript.record import RunSubject

# When the image was read: before the checks or after them.
Moment = Literal["before", "after"]

PHASE = "transcript"
SUBJECT_PHASE = "configuration"
FACTS_PHASE = "boot"
DIGEST_PHASE = "image"

NONCE = re.compile(r"[A-Za-z0-9._:=+/-]{8,128}")

# Two runs may begin in the same second; more than this many are somebody's mistake.
SAME_SECOND = 100


@dataclass(frozen=True)
class RunName:
    """Who a run is: its id, its nonce, when it began, and the common start of its file names."""

    id: str
    nonce: str
    started: datetime
    stem: str


def utc_now() -> datetime:
    """Return the time of day, in UTC."""
    return datetime.now(UTC)


def since_boot() -> float:
    """Return seconds that never jump, and that go on while the host sleeps, as the time of day."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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
        session: RunName,
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
        self._latest = session.started
        self._seconds = 0.0
        self._lock = threading.Lock()

    @classmethod
    def begin(
        cls,
        directory: Path,
        *,
        nonce: str | None = None,
        redactor: Redactor | None = None,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = since_boot,
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
                session = RunName(
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
        log._write(PHASE, BEGIN, {"schema": CURRENT.events, "session": session.id, "nonce": nonce})
        return log

    def append(self, phase: str, kind: str, data: Mapping[str, object] | None = None) -> str:
        """Write one event, redacted, to the disk and return the new head of the chain.

        Args:
            phase: the phase of the run it belongs to.
            kind: what happened, in a word; those of `chain.KINDS` have their own methods.
            data: JSON data.

        Raises:
            RaveError: HOST if the disk is full; the log is closed then and cannot be completed.
        """
        if kind in KINDS:
            raise ValueError(f"an event of kind {kind!r} is written by the log itself")
        return self._write(phase, kind, data or {})

    def subject(self, subject: RunSubject) -> None:
        """Write what the run is about, before anything else.

        Raises:
            RaveError: as `append`.
        """
        self._write(SUBJECT_PHASE, SUBJECT, subject.document())

    def check(self, result: CheckResult) -> CheckResult:
        """Write the result of a check, and return it as it was written.

        Raises:
            RaveError: as `append`.
        """
        clean = result.cleaned(self.redactor)
        members = clean.document()
        self._write(members.pop("phase"), CHECK, members)
        return clean

    def facts(self, facts: Mapping[str, object]) -> dict[str, Json]:
        """Write what the guest said about itself, and return it as it was written.

        Raises:
            RaveError: as `append`.
        """
        clean = cast("dict[str, Json]", self.redactor.value(facts, DEEPEST_DATA))
        self._write(FACTS_PHASE, FACTS, clean)
        return clean

    def digest(self, moment: Moment, sha256: str) -> None:
        """Write the image's digest in hex, as it was read.

        Raises:
            RaveError: as `append`.
        """
        self._write(DIGEST_PHASE, DIGEST, {"moment": moment, "sha256": sha256})

    def abort(self, reason: str) -> None:
        """Write why the run does not go on.

        Raises:
            RaveError: as `append`.
        """
        self._write(PHASE, ABORT, {"reason": reason})

    def finish(self, status: str) -> ChainEnds:
        """Write the end event, which carries the number of lines, and close the file.

        Raises:
            RaveError: HOST if the disk is full.
        """
        self._write(PHASE, END, {"count": self.count + 1, "status": status})
        self.close()
        return self.ends(status)

    def ends(self, status: str) -> ChainEnds:
        """Return what the log has come to, given the verdict on its run."""
        return ChainEnds(
            head=self.head,
            count=self.count,
            session=self.session.id,
            nonce=self.session.nonce,
            started=timestamp(self.session.started),
            completed=timestamp(self._latest),
            seconds=self._seconds,
            status=status,
        )

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

    def _write(self, phase: str, kind: str, data: Mapping[str, object]) -> str:
        # A line is whole, or the log is lost: what ends the run waits until the disk has it.
        with signals.held(), self._lock:
            if self._fd < 0:
                raise RaveError(
                    f"the event log {self.path} is closed; the run cannot be recorded any further",
                    hint="rave smoke run",
                    exit_code=ExitCode.HOST,
                )
            if self.count:
                # A clock that is set back must not turn the order of events around.
                self._latest = max(self._clock(), self._latest)
            self._seconds = round(self._monotonic() - self._began, 3)
            line = line_bytes(
                {
                    "seq": self.count + 1,
                    "prev": self.head,
                    "time": timestamp(self._latest),
                    "mono": self._seconds,
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


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o644)
    sync_dir(path.parent)
    return fd
