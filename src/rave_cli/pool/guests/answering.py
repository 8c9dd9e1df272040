"""What a machine is answered: of its own jobs alone, within its terms, and nothing of this host."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from rave_cli import audit, paths
from rave_cli.audit import AuditedCommand
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import inputs
from rave_cli.pool.guests import asked as questions
from rave_cli.pool.guests.asked import (
    OwnJobAsked,
    PieceGiven,
    PrintedAsked,
    SandboxAsked,
    TermsAsked,
)
from rave_cli.pool.guests.terms import MOST_DISK, MOST_GIVEN, MOST_OUTPUT
from rave_cli.pool.jobs.database import folder
from rave_cli.pool.jobs.store import UnknownJobError
from rave_cli.pool.jobs.submission import Submission
from rave_cli.pool.jobs.work import JobInput

if TYPE_CHECKING:
    from rave_cli.pool.access.local import LocalPool
    from rave_cli.pool.guests.asked import Asked
    from rave_cli.pool.guests.terms import GuestTerms, PoolGuest
    from rave_cli.pool.jobs.job import Job

log = logging.getLogger("rave.pool.guests")

# Bytes of output in an answer, before base64.
MOST_TOLD = 48 << 10

HOUR = 3600.0

# Seconds after which what was given and not used is dropped.
UNUSED = 120.0


@dataclass
class GivenArchive:
    """An archive that comes in pieces; a file without a name, so that nothing is ever left."""

    _file: IO[bytes] | None = None
    _size: int = 0
    _at: float = 0.0

    def take(self, at: int, data: bytes) -> int:
        """Take a piece; return how many bytes there are.

        Raises:
            RaveError: USAGE if it is not the next one, or there are too many; HOST if it cannot be
                written.
        """
        if at == 0:
            self.drop()
        if at != self._size:
            raise _refused(f"the next piece begins at {self._size}")
        if at + len(data) > MOST_GIVEN:
            self.drop()
            raise _refused(f"what a job is given is larger than {MOST_GIVEN >> 20} MiB")
        place = paths.private_dir(folder())
        with paths.refusing(place):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - kept open
            self._file.write(data)
        self._size, self._at = at + len(data), time.monotonic()
        return self._size

    def keep(self, named: JobInput) -> None:
        """Keep it for a job, if it is the one that is named; it is gone here then.

        Raises:
            RaveError: USAGE if it is another, or no archive; HOST if it cannot be kept.
        """
        if self._file is None or self._size != named.size:
            raise _refused("what the job is to be given has not come")
        try:
            with paths.refusing(folder()):
                self._file.flush()
                self._file.seek(0)
                # Before it takes a place that another's could have.
                same = _digest(self._file) == named.sha256
                self._file.seek(0)
            if not same:
                raise _refused("what the job is to be given came as something else")
            # The descriptor's place is the file's.
            inputs.keep_stream(self._file.fileno())
        finally:
            self.drop()

    def drop(self) -> None:
        """Forget it."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file, self._size = None, 0

    def rest(self, now: float) -> None:
        """Forget one that nobody uses."""
        if self._file is not None and now - self._at > UNUSED:
            self.drop()


@dataclass
class GuestDesk:
    """Answers one machine. For one thread.

    Attributes:
        guest: the machine, and its terms as they are now.
        pool: the pool, for that machine.
        refused: how many of its questions were refused.
    """

    guest: PoolGuest
    pool: LocalPool
    refused: int = 0
    given: GivenArchive = field(default_factory=GivenArchive)

    def answer(self, line: bytes) -> bytes:
        """Return the line that answers one; nothing for what is no question."""
        try:
            asked = questions.read(line)
        except questions.UnreadableError:
            self.refused += 1
            return b""
        except questions.UnfitError as unfit:
            self.refused += 1
            return _line(unfit.id, _problem(unfit))
        try:
            return _line(asked.id, {"ok": True, "answer": self._carried_out(asked)})
        except RaveError as error:
            self.refused += 1
            return _line(asked.id, _problem(error))

    def _carried_out(self, asked: Asked) -> dict[str, Any]:
        match asked:
            case TermsAsked():
                return terms_told(self.guest.terms)
            case PieceGiven():
                return {"size": self.given.take(asked.at, _decoded(asked.data))}
            case SandboxAsked():
                return job_told(self._submit(asked))
            case PrintedAsked():
                return self._printed(asked)
            case OwnJobAsked(ask="cancel"):
                return job_told(self._cancel(asked.job))
            case OwnJobAsked():
                return job_told(self._own(asked.job))

    def _submit(self, asked: SandboxAsked) -> Job:
        owner, given = self.guest.owner, None
        if asked.given is not None:
            origin = f"machine {self.guest.machine.name}"
            given = JobInput(asked.given.sha256, asked.given.size, origin)
        work = asked.work.within(self.guest.terms, given)
        known = self.pool.store.asked_before(Submission((work,), owner, asked.key))
        if known:
            return known[0]
        self._refuse_too_much(work.most_output + (given.size if given else 0))
        if given is not None:
            self.given.keep(given)
        told = AuditedCommand.of("pool submit", [f"1 by {owner}"], ["guest"])
        with audit.attempt(told, log.warning):
            (job,) = self.pool.submit([work], asked.key)
        return job

    def _refuse_too_much(self, most: int) -> None:
        terms = self.guest.terms
        burden = self.pool.store.burden(self.guest.owner, time.time() - HOUR)
        if burden.open >= terms.jobs:
            raise _later(f"{burden.open} jobs of this machine wait or run, and {terms.jobs} may")
        if burden.lately >= terms.per_hour:
            raise _later(f"this machine has submitted {burden.lately} jobs within an hour")
        if burden.kept + most > terms.kept_mib << 20:
            raise _refused(f"more than {terms.kept_mib} MiB would be kept of this machine's jobs")

    def _own(self, name: str) -> Job:
        """Return a job of the machine's own. Of others it is not said that they are there."""
        with suppress(UnknownJobError):
            job = self.pool.load(name)
            if job.owner == self.guest.owner and job.name == name:
                return job
        raise RaveError("this machine has no such job", exit_code=ExitCode.USAGE)

    def _cancel(self, name: str) -> Job:
        job = self._own(name)
        if job.over or job.cancelling:
            return job
        told = AuditedCommand.of("pool cancel", [name, f"by {self.guest.owner}"], ["guest"])
        with audit.attempt(told, log.warning):
            return self.pool.cancel(name)

    def _printed(self, asked: PrintedAsked) -> dict[str, Any]:
        name = self._own(asked.job).name
        told: list[dict[str, Any]] = []
        size = 0
        for piece in self.pool.store.printed(name, asked.attempt, asked.after):
            size += len(piece.data)
            if told and size > MOST_TOLD:
                break
            data = base64.b64encode(piece.data).decode()
            told.append({"number": piece.number, "stream": piece.stream, "data": data})
        return {"pieces": told}


def job_told(job: Job) -> dict[str, Any]:
    """Return what a machine is told of a job of its own: why one could not be run is this host's
    affair.
    """
    why = "the pool's host could not run it" if job.state == "error" else job.why
    return {
        "job": job.name,
        "state": job.state,
        "over": job.over,
        "attempt": job.attempt,
        "exit_status": job.exit_status,
        "why": why if job.over else "",
        "cancelling": job.cancelling,
        "submitted": job.submitted,
        "began": job.began,
        "ended": job.ended,
    }


def terms_told(terms: GuestTerms) -> dict[str, Any]:
    """Return what a machine may ask for, as it is told."""
    return {
        "memory_mib": terms.memory_mib,
        "cpus": terms.cpus,
        "timeout": terms.timeout,
        "jobs": terms.jobs,
        "per_hour": terms.per_hour,
        "most_output": MOST_OUTPUT,
        "most_disk": MOST_DISK,
        "most_given": MOST_GIVEN,
    }


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused("the piece is no base64") from error


def _line(asker: str, document: dict[str, Any]) -> bytes:
    text = json.dumps({"v": questions.VERSION, "id": asker, **document}, separators=(",", ":"))
    return text.encode() + b"\n"


def _problem(error: RaveError) -> dict[str, Any]:
    if error.exit_code is ExitCode.USAGE:
        return {"ok": False, "error": "refused", "why": error.message}
    if isinstance(error, _LaterError):
        return {"ok": False, "error": "later", "why": error.message}
    # Paths of this host are of no use to whoever asks.
    log.warning("a machine cannot be answered: %s", error.message)
    return {"ok": False, "error": "later", "why": "the pool's host cannot do that now"}


class _LaterError(RaveError):
    """It may be asked again later."""


def _later(why: str) -> RaveError:
    return _LaterError(why, exit_code=ExitCode.NOT_READY)


def _refused(why: str) -> RaveError:
    return RaveError(why, exit_code=ExitCode.USAGE)
