"""Every job that was accepted: what is true, whatever becomes of the queue.

A job is accepted once its transaction is on the disk. Any number of commands may submit and read
while one process serves.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs import tracecontext
from rave_cli.pool.jobs.bell import ring
from rave_cli.pool.jobs.database import NOTHING_SEEN, jobs_file
from rave_cli.pool.jobs.history import HistoryDatabase
from rave_cli.pool.jobs.job import NAME, Job, Kept, Printed, Printout, advance, new_name
from rave_cli.pool.jobs.rows import COLUMNS, facts_text, job_of, work_text
from rave_cli.pool.jobs.submission import ReusedKeyError, Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rave_cli.pool.jobs.job import Happening
    from rave_cli.pool.jobs.work import Work

    Seal = Callable[[Job, Printout], bytes]

# Jobs that may wait and run at a time; more are refused, which is better than a queue without end.
MOST_OPEN = 100_000

# Jobs that are counted of those that came before another.
MOST_COUNTED = 1_000

# Days that a job is kept after its end.
KEPT_DAYS = 30


class UnknownJobError(RaveError):
    """No job has that name, or more than one begins so."""


@dataclass(frozen=True)
class Piece:
    """A piece of output; a later one has a higher number."""

    number: int
    stream: int
    data: bytes


def printout_of(pieces: Iterable[Piece]) -> Printout:
    """Return what some output comes to."""
    digests, sizes = {1: hashlib.sha256(), 2: hashlib.sha256()}, {1: 0, 2: 0}
    for piece in pieces:
        digests[piece.stream].update(piece.data)
        sizes[piece.stream] += len(piece.data)
    kept = [Kept(sizes[stream], digests[stream].hexdigest()) for stream in (1, 2)]
    return Printout(*kept)


@dataclass(frozen=True)
class Scale:
    """How many agents somebody wants: None is as many as `rave pool serve` was told. One that is
    draining lets none take a job. So many machines are to stand by for jobs to come.
    """

    agents: int | None = None
    draining: bool = False
    standby: int = 0


class JobStore(HistoryDatabase):
    """The open store; a context that closes it. For one thread."""

    @property
    def origin(self) -> str:
        """What this store is called where several share one queue."""
        return str(self._rows("SELECT origin FROM pool")[0][0])

    @property
    def seen(self) -> str:
        """The last happening of the queue that was recorded."""
        return str(self._rows("SELECT seen FROM pool")[0][0])

    # --- what commands do

    def accept(
        self, works: Sequence[Work], *, owner: str = "", key: str = "", most: int = MOST_OPEN
    ) -> list[Job]:
        """Take in jobs of somebody: all of them, durably, or none. With a key that its owner has
        used for the same before, return the jobs that came of that.

        Raises:
            ReusedKeyError: it was used for something else.
            RaveError: NOT_READY if more than `most` would wait then; HOST if the disk is full.
        """
        with self._writing():
            jobs = self._accept(Submission(tuple(works), owner, key), most)
        ring()
        return jobs

    def accept_each(
        self, asked: Sequence[Submission], *, most: int = MOST_OPEN
    ) -> list[list[Job] | RaveError]:
        """Take in several submissions in one transaction: each as `accept` would; return what
        came of each. One that is refused keeps no other out.

        Raises:
            RaveError: HOST if nothing of it is on the disk.
        """
        answers: list[list[Job] | RaveError] = []
        with self._writing():
            for one in asked:
                try:
                    answers.append(self._accept(one, most))
                except ReusedKeyError as refused:
                    answers.append(refused)
                except RaveError as refused:
                    if refused.exit_code != ExitCode.NOT_READY:
                        raise
                    answers.append(refused)
        ring()
        return answers

    def _accept(self, asked: Submission, most: int) -> list[Job]:
        now = time.time()
        if known := self.asked_before(asked):
            return known
        jobs = [
            Job(new_name(), work, now, trace=_trace(work), owner=asked.owner)
            for work in asked.works
        ]
        if self._open() + len(jobs) > most:
            raise RaveError(
                f"the pool is full: {self._open()} jobs wait or run, and {most} may",
                hint="try again later; rave pool list   (what waits)",
                exit_code=ExitCode.NOT_READY,
            )
        self._db.executemany(
            "INSERT INTO jobs (name, work, submitted, state, attempt, failed, lost, agent, why,"
            " cancelling, expires, queued, trace, owner)"
            " VALUES (?, ?, ?, 'waiting', 0, 0, 0, '', '', 0, ?, 0, ?, ?)",
            [
                (
                    job.name,
                    work_text(job.work),
                    job.submitted,
                    job.work.expires,
                    job.trace,
                    job.owner,
                )
                for job in jobs
            ],
        )
        if asked.key:
            names = json.dumps([job.name for job in jobs])
            self._db.execute(
                "INSERT INTO submissions (owner, key, digest, jobs, at) VALUES (?, ?, ?, ?, ?)",
                (asked.owner, asked.key, asked.digest, names, now),
            )
        return jobs

    def asked_before(self, asked: Submission) -> list[Job]:
        """Return the jobs of a submission that was taken in already; none of one without a key.

        Raises:
            ReusedKeyError: its key was used for something else.
        """
        words = "SELECT digest, jobs FROM submissions WHERE owner = ? AND key = ?"
        found = self._rows(words, (asked.owner, asked.key)) if asked.key else []
        if not found:
            return []
        digest, names = found[0]
        if digest != asked.digest:
            raise asked.reused()
        return [self.load(name) for name in json.loads(names)]

    def load(self, name: str) -> Job:
        """Return a job; the beginning of its name will do, if no other begins so.

        Raises:
            UnknownJobError: if there is none.
        """
        found: list[Job] = []
        if name and NAME.fullmatch(name.ljust(12, "0")):
            found = self._jobs("WHERE name >= ? AND name < ? LIMIT 2", (name, name + "g"))
        if len(found) != 1:
            what = "more than one job begins with" if found else "there is no job"
            raise UnknownJobError(
                f"{what} {name!r}", hint="rave pool list   (all jobs)", exit_code=ExitCode.USAGE
            )
        return found[0]

    def newest(self, most: int, states: Sequence[str] = (), before: str = "") -> list[Job]:
        """Return jobs, the newest first: those in one of `states`, if any are named, and only what
        was submitted before the job of that name, if it is one.
        """
        wanted, values = list[str](), list[object]()
        if states:
            wanted.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        if before:
            wanted.append("number < (SELECT number FROM jobs WHERE name = ?)")
            values.append(before)
        where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
        return self._jobs(f"{where} ORDER BY number DESC LIMIT ?", (*values, most))

    def names(self) -> list[str]:
        """Return the names of the newest jobs, for a shell that completes them."""
        return [job.name for job in self.newest(200)]

    def cancel(self, name: str) -> Job:
        """Note that a job is to be cancelled; whoever serves the pool does it."""
        with self._writing():
            self._db.execute(
                "UPDATE jobs SET cancelling = 1 WHERE name = ? AND ended IS NULL", (name,)
            )
        ring()
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
        return printout_of(self.output(job))

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

    def retry(self, jobs: Sequence[Job], *, owner: str = "") -> list[Job]:
        """Take in anew, for whoever asks now, what was asked for by jobs that are over: all, or
        none of them. What expired, or was given up, is not any more.

        Raises:
            RaveError: as `accept`.
        """
        with self._writing():
            works = tuple(replace(job.work, expires=None) for job in jobs)
            taken = self._accept(Submission(works, owner), MOST_OPEN)
            self._db.executemany(
                "UPDATE jobs SET dropped = 1 WHERE name = ?", [(job.name,) for job in jobs]
            )
            # The forge that told of it hears of the new one.
            self._db.executemany(
                "UPDATE revisions SET job = ? WHERE job = ?",
                [(new.name, job.name) for job, new in zip(jobs, taken, strict=True)],
            )
        ring()
        return taken

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        tally = self._tally()
        tally.pop("dead")
        return {state: count for state, count in tally.items() if count}

    def dead_count(self) -> int:
        """Return how many jobs were given up that nobody has dealt with."""
        return self._tally()["dead"]

    def waiting_since(self) -> float | None:
        """Return since when a job waits that waits longest for an agent; of one that is tried again
        that is since its time came, which may be yet to come. None if no job waits.
        """
        rows = self._rows(
            "SELECT min(since) FROM ("
            " SELECT * FROM (SELECT submitted AS since FROM jobs"
            " WHERE state = 'waiting' AND until IS NULL ORDER BY number LIMIT 1) UNION ALL"
            " SELECT * FROM (SELECT until AS since FROM jobs"
            " WHERE state = 'waiting' AND until IS NOT NULL ORDER BY until LIMIT 1))"
        )
        return None if rows[0][0] is None else float(rows[0][0])

    def oldest(self) -> Job | None:
        """Return the job that has waited longest, if one waits."""
        found = self._jobs("WHERE ended IS NULL AND state = 'waiting' ORDER BY number LIMIT 1")
        return found[0] if found else None

    def before(self, job: Job, now: float) -> int:
        """Return how many jobs wait that came before a job and may begin now: of the fresh ones and
        of those that have rested MOST_COUNTED are looked at, however many there are.
        """
        ((number,),) = self._rows("SELECT number FROM jobs WHERE name = ?", (job.name,))
        ((fresh,),) = self._rows(
            "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'waiting' AND until IS NULL"
            " AND number < ? LIMIT ?)",
            (number, MOST_COUNTED),
        )
        ((again,),) = self._rows(
            "SELECT count(*) FROM (SELECT number FROM jobs WHERE state = 'waiting'"
            " AND until IS NOT NULL AND until <= ? ORDER BY until LIMIT ?) WHERE number < ?",
            (now, MOST_COUNTED, number),
        )
        return min(int(fresh + again), MOST_COUNTED)

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
        return self._jobs("WHERE state = 'running' ORDER BY number")

    @property
    def scale(self) -> Scale:
        """How many agents somebody wants."""
        agents, draining, standby = self._rows("SELECT agents, draining, standby FROM pool")[0]
        return Scale(agents, bool(draining), standby)

    def set_scale(self, wanted: Scale) -> None:
        """Note how many agents are wanted; whoever serves the pool keeps to it."""
        with self._writing():
            self._db.execute(
                "UPDATE pool SET agents = ?, draining = ?, standby = ?",
                (wanted.agents, wanted.draining, wanted.standby),
            )
        ring()

    # --- what whoever serves does

    def unqueued(self, most: int) -> list[Job]:
        """Return jobs that the queue may not have, the oldest first."""
        return self._jobs("WHERE ended IS NULL AND queued = 0 ORDER BY number LIMIT ?", (most,))

    def queued(self, names: Iterable[str]) -> None:
        """Note that the queue has these jobs."""
        now = time.time()
        with self._writing():
            self._db.executemany(
                "UPDATE jobs SET queued = 1, enqueued = coalesce(enqueued, ?) WHERE name = ?",
                [(now, name) for name in names],
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
        exports: bool = False,
    ) -> list[Job]:
        """Take in what happened to jobs, by their names; return those that are changed by it.

        `seen` is the last of them in the queue: it is remembered in the same transaction, so that
        none is taken in twice, whatever ends us. `seal` makes the proof of a job that ends, in the
        same transaction, too: none is over without. `exports` says whether the trace of such a
        job is to be exported.
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
                    self._remember(name, happening)
            for job in changed.values():
                self._save(job)
                if job.over and seal is not None:
                    self._prove(job, seal)
                if job.over:
                    self._record_end(job, exports=exports)
            if seen is not None:
                self._db.execute("UPDATE pool SET seen = ?", (seen,))
        return list(changed.values())

    def prune(self, now: float) -> int:
        """Remove jobs that ended KEPT_DAYS ago, and keys that were used then; return how many."""
        before = now - KEPT_DAYS * 86400
        with self._writing():
            # A key never outlives the jobs that it stands for.
            self._db.execute("DELETE FROM submissions WHERE at < ?", (before,))
            gone = self._db.execute("DELETE FROM jobs WHERE ended < ?", (before,)).rowcount
        return int(gone)

    # --- rows

    def _open(self) -> int:
        tally = self._tally()
        return tally.get("waiting", 0) + tally.get("running", 0)

    def _tally(self) -> dict[str, int]:
        return {str(what): int(jobs) for what, jobs in self._rows("SELECT what, jobs FROM tally")}

    def _add_output(self, name: str, piece: Printed) -> None:
        self._db.execute(
            "INSERT INTO output (job, attempt, stream, data) VALUES (?, ?, ?, ?)",
            (name, piece.attempt, piece.stream, piece.data),
        )

    def _save(self, job: Job) -> None:
        self._db.execute(
            "UPDATE jobs SET state = ?, attempt = ?, failed = ?, lost = ?, agent = ?, began = ?,"
            " until = ?, ended = ?, exit_status = ?, why = ?, facts = ?, lacking = ?"
            " WHERE name = ?",
            (
                job.state, job.attempt, job.failed, job.lost, job.agent, job.began, job.until,
                job.ended, job.exit_status, job.why, facts_text(job.facts), job.lacking, job.name,
            ),
        )  # fmt: skip

    def _record_end(self, job: Job, *, exports: bool) -> None:
        now = time.time()
        self._db.execute("UPDATE jobs SET recorded = ? WHERE name = ?", (now, job.name))
        if exports and job.context.sampled:
            self._db.execute("INSERT OR IGNORE INTO due (job) VALUES (?)", (job.name,))

    def _prove(self, job: Job, seal: Seal) -> None:
        envelope = seal(job, self.printout(job))
        self._db.execute("INSERT OR REPLACE INTO proofs VALUES (?, ?)", (job.name, envelope))

    def _one(self, name: str) -> Job | None:
        return next(iter(self._jobs("WHERE name = ?", (name,))), None)

    def _jobs(self, where: str, values: Sequence[object] = ()) -> list[Job]:
        return [job_of(row) for row in self._rows(f"SELECT {COLUMNS} FROM jobs {where}", values)]  # noqa: S608 - our own words


def _trace(work: Work) -> str:
    asked = tracecontext.parse(work.traceparent)
    return asked.trace if asked else tracecontext.new_trace()


def open_store() -> JobStore:
    """Open the store of whoever calls, made if there is none.

    Raises:
        RaveError: HOST if it cannot be opened, or a newer rave made it.
    """
    return JobStore(jobs_file())
