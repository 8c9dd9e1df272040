"""Every job that was accepted, in SQLite: what is true, whatever becomes of the queue.

A job is accepted once its transaction is on the disk (WAL with synchronous=FULL: with NORMAL a
power cut takes back what was acknowledged, https://www.sqlite.org/pragma.html#pragma_synchronous).
Any number of commands may submit and read while one process serves.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobrows import (
    COLUMNS,
    SCHEMA,
    UPGRADES,
    VERSION,
    facts_text,
    job_of,
    work_text,
)
from rave_cli.pool.jobs import (
    NAME,
    Job,
    Kept,
    Printed,
    Printout,
    Work,
    advance,
    new_name,
)
from rave_cli.records import NewerRecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rave_cli.pool.jobs import Happening

    Seal = Callable[[Job, Printout], bytes]

# Jobs that may wait and run at a time; more are refused, which is better than a queue without end.
MOST_OPEN = 100_000

# Before the first happening of a queue.
NOTHING_SEEN = "0-0"

# Seconds to wait for another process that writes, and days that a job is kept after its end.
BUSY = 10.0
KEPT_DAYS = 30


@dataclass(frozen=True)
class Piece:
    """A piece of output; a later one has a higher number."""

    number: int
    stream: int
    data: bytes


@dataclass(frozen=True)
class Scale:
    """How many agents somebody wants: None is as many as `rave pool serve` was told. One that is
    draining lets none take a job.
    """

    agents: int | None = None
    draining: bool = False


class JobStore:
    """The open store; a context that closes it. For one thread."""

    def __init__(self, place: Path) -> None:
        self.place = place
        paths.private_dir(place.parent)
        with paths.refusing(place):
            os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        paths.require_trusted(place)
        with _refusing(place):
            # No transaction begins by itself.
            self._db = sqlite3.connect(place, timeout=BUSY, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._version() < VERSION:
            with self._writing():
                # Another process may have done it meanwhile.
                if self._version() == 0:
                    self._change(SCHEMA, 1)
                    self._db.execute(
                        "INSERT INTO pool VALUES (?, '', ?)", (secrets.token_hex(6), NOTHING_SEEN)
                    )
                for version in range(self._version(), VERSION):
                    self._change(UPGRADES[version], version + 1)
        if self._version() > VERSION:
            raise NewerRecordError(
                f"the jobs in {self.place} were written by a newer rave (version"
                f" {self._version()}, this rave knows {VERSION})",
                hint="update rave, or use the one that made it; the file was left as it is",
                exit_code=ExitCode.HOST,
            )

    def _change(self, statements: str, version: int) -> None:
        for statement in statements.split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {version}")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Enclose a transaction: all of it, or nothing."""
        with signals.held(), _refusing(self.place):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @property
    def origin(self) -> str:
        """What this store is called where several share one queue."""
        return str(self._rows("SELECT origin FROM pool")[0][0])

    @property
    def seen(self) -> str:
        """The last happening of the queue that was recorded."""
        return str(self._rows("SELECT seen FROM pool")[0][0])

    # --- what commands do

    def accept(self, works: Sequence[Work], *, most: int = MOST_OPEN) -> list[Job]:
        """Take in jobs: all of them, durably, or none.

        Raises:
            RaveError: NOT_READY if more than `most` would wait then; HOST if the disk is full.
        """
        with self._writing():
            return self._accept(works, most)

    def _accept(self, works: Sequence[Work], most: int) -> list[Job]:
        now = time.time()
        jobs = [Job(new_name(), work, now) for work in works]
        if self._open() + len(jobs) > most:
            raise RaveError(
                f"the pool is full: {self._open()} jobs wait or run, and {most} may",
                hint="try again later; rave pool list   (what waits)",
                exit_code=ExitCode.NOT_READY,
            )
        self._db.executemany(
            "INSERT INTO jobs (name, work, submitted, state, attempt, failed, lost, agent, why,"
            " cancelling, expires, queued)"
            " VALUES (?, ?, ?, 'waiting', 0, 0, 0, '', '', 0, ?, 0)",
            [(job.name, work_text(job.work), job.submitted, job.work.expires) for job in jobs],
        )
        return jobs

    def load(self, name: str) -> Job:
        """Return a job; the beginning of its name will do, if no other begins so.

        Raises:
            RaveError: USAGE if there is none.
        """
        found: list[Job] = []
        if name and NAME.fullmatch(name.ljust(12, "0")):
            found = self._jobs("WHERE name >= ? AND name < ? LIMIT 2", (name, name + "g"))
        if len(found) != 1:
            what = "more than one job begins with" if found else "there is no job"
            raise RaveError(
                f"{what} {name!r}", hint="rave pool list   (all jobs)", exit_code=ExitCode.USAGE
            )
        return found[0]

    def newest(self, most: int, states: Sequence[str] = ()) -> list[Job]:
        """Return jobs, the newest first: those in one of `states`, if any are named."""
        where = f"WHERE state IN ({', '.join('?' * len(states))})" if states else ""
        return self._jobs(f"{where} ORDER BY number DESC LIMIT ?", (*states, most))

    def names(self) -> list[str]:
        """Return the names of the newest jobs, for a shell that completes them."""
        return [job.name for job in self.newest(200)]

    def cancel(self, name: str) -> Job:
        """Note that a job is to be cancelled; whoever serves the pool does it."""
        with self._writing():
            self._db.execute(
                "UPDATE jobs SET cancelling = 1 WHERE name = ? AND ended IS NULL", (name,)
            )
        return self.load(name)

    def printed(self, name: str, attempt: int, after: int = 0) -> list[Piece]:
        """Return the output of an attempt whose numbers are above `after`."""
        rows = self._rows(
            "SELECT number, stream, data FROM output WHERE job = ? AND attempt = ? AND number > ?"
            " ORDER BY number LIMIT 1000",
            (name, attempt, after),
        )
        return [Piece(*row) for row in rows]

    def output(self, job: Job) -> Iterator[Piece]:
        """Yield what the last attempt at a job has printed so far."""
        after = 0
        while pieces := self.printed(job.name, job.attempt, after):
            yield from pieces
            after = pieces[-1].number

    def printout(self, job: Job) -> Printout:
        """Return what is kept of the output of a job's last attempt."""
        digests, sizes = {1: hashlib.sha256(), 2: hashlib.sha256()}, {1: 0, 2: 0}
        for piece in self.output(job):
            digests[piece.stream].update(piece.data)
            sizes[piece.stream] += len(piece.data)
        kept = [Kept(sizes[stream], digests[stream].hexdigest()) for stream in (1, 2)]
        return Printout(*kept)

    def proof(self, name: str) -> bytes | None:
        """Return the proof of a job; None if there is none."""
        rows = self._rows("SELECT envelope FROM proofs WHERE job = ?", (name,))
        return bytes(rows[0][0]) if rows else None

    def dead(self, most: int) -> list[Job]:
        """Return the jobs that were given up and that nobody has dealt with, the newest first."""
        return self._jobs(
            "WHERE state = 'error' AND dropped = 0 ORDER BY number DESC LIMIT ?", (most,)
        )

    def drop(self, names: Iterable[str]) -> None:
        """Note that somebody has dealt with these jobs."""
        with self._writing():
            self._db.executemany(
                "UPDATE jobs SET dropped = 1 WHERE name = ?", [(name,) for name in names]
            )

    def retry(self, jobs: Sequence[Job]) -> list[Job]:
        """Take in anew what was asked for by jobs that are over: all, or none of them. What
        expired, or was given up, is not any more.

        Raises:
            RaveError: as `accept`.
        """
        with self._writing():
            taken = self._accept([replace(job.work, expires=None) for job in jobs], MOST_OPEN)
            self._db.executemany(
                "UPDATE jobs SET dropped = 1 WHERE name = ?", [(job.name,) for job in jobs]
            )
        return taken

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        rows = self._rows("SELECT state, count(*) FROM jobs GROUP BY state")
        return {str(state): int(count) for state, count in rows}

    def oldest(self) -> Job | None:
        """Return the job that has waited longest, if one waits."""
        found = self._jobs("WHERE ended IS NULL AND state = 'waiting' ORDER BY number LIMIT 1")
        return found[0] if found else None

    def before(self, job: Job, now: float) -> int:
        """Return how many jobs wait that came before a job and may begin now."""
        return int(
            self._rows(
                "SELECT count(*) FROM jobs WHERE ended IS NULL AND state = 'waiting'"
                " AND (until IS NULL OR until <= ?)"
                " AND number < (SELECT number FROM jobs WHERE name = ?)",
                (now, job.name),
            )[0][0]
        )

    def given(self) -> set[str]:
        """Return the digests of all that jobs are given."""
        rows = self._rows("SELECT DISTINCT json_extract(work, '$.given.sha256') FROM jobs")
        return {str(digest) for (digest,) in rows if digest}

    def keeping(self) -> set[str]:
        """Return the attempts, as `job-attempt`, whose artifacts are kept."""
        rows = self._rows(
            "SELECT name, attempt FROM jobs WHERE ended IS NOT NULL"
            " AND json_array_length(NULLIF(facts, ''), '$.artifacts') > 0"
        )
        return {f"{name}-{attempt}" for name, attempt in rows}

    def running(self) -> list[Job]:
        """Return the jobs that run."""
        return self._jobs("WHERE ended IS NULL AND state = 'running' ORDER BY number")

    @property
    def scale(self) -> Scale:
        """How many agents somebody wants."""
        agents, draining = self._rows("SELECT agents, draining FROM pool")[0]
        return Scale(agents, bool(draining))

    def set_scale(self, wanted: Scale) -> None:
        """Note how many agents are wanted; whoever serves the pool keeps to it."""
        with self._writing():
            self._db.execute(
                "UPDATE pool SET agents = ?, draining = ?", (wanted.agents, wanted.draining)
            )

    # --- what whoever serves does

    def unqueued(self, most: int) -> list[Job]:
        """Return jobs that the queue may not have, the oldest first."""
        return self._jobs("WHERE ended IS NULL AND queued = 0 ORDER BY number LIMIT ?", (most,))

    def queued(self, names: Iterable[str]) -> None:
        """Note that the queue has these jobs."""
        with self._writing():
            self._db.executemany(
                "UPDATE jobs SET queued = 1 WHERE name = ?", [(name,) for name in names]
            )

    def queue_anew(self, epoch: str) -> None:
        """Note that nobody knows what the queue has; one of another epoch has told nothing yet."""
        with self._writing():
            self._db.execute("UPDATE jobs SET queued = 0 WHERE ended IS NULL AND queued = 1")
            self._db.execute(
                "UPDATE pool SET epoch = ?, seen = ? WHERE epoch <> ?",
                (epoch, NOTHING_SEEN, epoch),
            )

    def cancelling(self) -> list[Job]:
        """Return the jobs that are still to be cancelled."""
        return self._jobs("WHERE ended IS NULL AND cancelling = 1 ORDER BY number LIMIT 100")

    def expired(self, now: float) -> list[Job]:
        """Return the jobs of which no attempt began in time."""
        return self._jobs(
            "WHERE ended IS NULL AND expires < ? AND attempt = 0 ORDER BY expires LIMIT 100", (now,)
        )

    def record(
        self,
        happenings: Sequence[tuple[str, Happening]],
        seen: str | None = None,
        *,
        seal: Seal | None = None,
    ) -> list[Job]:
        """Take in what happened to jobs, by their names; return those that are changed by it.

        `seen` is the last of them in the queue: it is remembered in the same transaction, so that
        none is taken in twice, whatever ends us. `seal` makes the proof of a job that ends, in the
        same transaction, too: none is over without.
        """
        changed: dict[str, Job] = {}
        with self._writing():
            for name, happening in happenings:
                before = changed.get(name) or self._one(name)
                if before is None or before.over:
                    continue
                if isinstance(happening, Printed):
                    self._add_output(name, happening)
                    continue
                after = advance(before, happening)
                if after != before:
                    changed[name] = after
            for job in changed.values():
                self._save(job)
                if job.over and seal is not None:
                    self._prove(job, seal)
            if seen is not None:
                self._db.execute("UPDATE pool SET seen = ?", (seen,))
        return list(changed.values())

    def prune(self, now: float) -> int:
        """Remove jobs that ended KEPT_DAYS ago; return how many."""
        with self._writing():
            gone = self._db.execute(
                "DELETE FROM jobs WHERE ended < ?", (now - KEPT_DAYS * 86400,)
            ).rowcount
        return int(gone)

    # --- rows

    def _open(self) -> int:
        return int(self._rows("SELECT count(*) FROM jobs WHERE ended IS NULL")[0][0])

    def _add_output(self, name: str, piece: Printed) -> None:
        self._db.execute(
            "INSERT INTO output (job, attempt, stream, data) VALUES (?, ?, ?, ?)",
            (name, piece.attempt, piece.stream, piece.data),
        )

    def _save(self, job: Job) -> None:
        self._db.execute(
            "UPDATE jobs SET state = ?, attempt = ?, failed = ?, lost = ?, agent = ?, began = ?,"
            " until = ?, ended = ?, exit_status = ?, why = ?, facts = ? WHERE name = ?",
            (
                job.state, job.attempt, job.failed, job.lost, job.agent, job.began, job.until,
                job.ended, job.exit_status, job.why, facts_text(job.facts), job.name,
            ),
        )  # fmt: skip

    def _prove(self, job: Job, seal: Seal) -> None:
        envelope = seal(job, self.printout(job))
        self._db.execute("INSERT OR REPLACE INTO proofs VALUES (?, ?)", (job.name, envelope))

    def _one(self, name: str) -> Job | None:
        return next(iter(self._jobs("WHERE name = ?", (name,))), None)

    def _jobs(self, where: str, values: Sequence[object] = ()) -> list[Job]:
        return [job_of(row) for row in self._rows(f"SELECT {COLUMNS} FROM jobs {where}", values)]  # noqa: S608 - our own words

    def _rows(self, words: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _refusing(self.place):
            return self._db.execute(words, tuple(values)).fetchall()


def folder() -> Path:
    """Return the directory of the pool."""
    return paths.data_dir() / "pool"


def open_store() -> JobStore:
    """Open the store of whoever calls, made if there is none.

    Raises:
        RaveError: HOST if it cannot be opened, or a newer rave made it.
    """
    return JobStore(folder() / "jobs.sqlite")


@contextmanager
def _refusing(place: Path) -> Iterator[None]:
    """Turn a fault of SQLite into a RaveError that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
        hint = f"df -h {place.parent}" if full else f"ls -l {place.parent}; df -h {place.parent}"
        raise RaveError(
            f"the jobs in {place} cannot be read or written: {error}",
            hint=hint,
            exit_code=ExitCode.HOST,
        ) from error
