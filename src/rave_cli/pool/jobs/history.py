"""What became of a job, step by step: each of its attempts, and when it went from hand to hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import shapes
from rave_cli.pool.jobs.database import JobDatabase
from rave_cli.pool.jobs.job import AttemptPhase, Began

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.pool.jobs.job import Ended, Job, Postponed

# Traces that wait to be exported; the oldest beyond are dropped.
MOST_DUE = 10_000


@dataclass(frozen=True)
class AttemptRecord:
    """An attempt at a job. Times are seconds since the epoch.

    Attributes:
        attempt: its number.
        agent: who made it.
        began: when.
        ended: when its agent said what came of it; None if none has.
        came: what that was; empty likewise.
        phases: what it was at, in order.
    """

    attempt: int
    agent: str
    began: float
    ended: float | None
    came: str
    phases: tuple[AttemptPhase, ...]


@dataclass(frozen=True)
class JobHistory:
    """A job and its attempts.

    Attributes:
        job: as it is now.
        enqueued: when the queue was first known to have it.
        recorded: when its end was recorded and signed for.
        attempts: in order.
    """

    job: Job
    enqueued: float | None
    recorded: float | None
    attempts: tuple[AttemptRecord, ...]


@dataclass(frozen=True)
class OwnerBurden:
    """What somebody asks of the pool.

    Attributes:
        open: how many of their jobs wait or run.
        lately: how many were submitted since a moment.
        kept: bytes that may be kept of all that are known: what they are given, and as much output
            as they may print.
    """

    open: int
    lately: int
    kept: int


class HistoryDatabase(JobDatabase):
    """The file of the jobs, with what became of each."""

    def history(self, job: Job) -> JobHistory:
        """Return what became of a job so far."""
        ((enqueued, recorded),) = self._rows(
            "SELECT enqueued, recorded FROM jobs WHERE name = ?", (job.name,)
        )
        rows = self._rows(
            "SELECT attempt, agent, began, ended, came, phases FROM attempts WHERE job = ?"
            " ORDER BY attempt",
            (job.name,),
        )
        attempts = tuple(
            AttemptRecord(number, agent, began, ended, came, _phases(text))
            for number, agent, began, ended, came, text in rows
        )
        return JobHistory(job, enqueued, recorded, attempts)

    def _remember(self, name: str, happening: Began | Postponed | Ended) -> None:
        """Note what happened to an attempt, within a transaction."""
        if isinstance(happening, Began):
            self._db.execute(
                "INSERT OR IGNORE INTO attempts (job, attempt, agent, began) VALUES (?, ?, ?, ?)",
                (name, happening.attempt, happening.agent, happening.at),
            )
        elif happening.facts.came:
            phases = json.dumps(shapes.plain(happening.facts.phases))
            self._db.execute(
                "UPDATE attempts SET ended = ?, came = ?, phases = ? WHERE job = ? AND attempt = ?",
                (happening.at, happening.facts.came, phases, name, happening.attempt),
            )

    def burden(self, owner: str, since: float) -> OwnerBurden:
        """Return what somebody asks of the pool; `since` is in seconds since the epoch."""
        rows = self._rows(
            "SELECT count(*) FILTER (WHERE ended IS NULL), count(*) FILTER (WHERE submitted >= ?),"
            " total(json_extract(work, '$.most_output'))"
            " + total(json_extract(work, '$.given.size'))"
            " FROM jobs WHERE owner = ?",
            (since, owner),
        )
        return OwnerBurden(*map(int, rows[0]))

    def owned(self, owner: str, since: float) -> list[str]:
        """Return the names of what somebody submitted since a moment, the oldest first."""
        rows = self._rows(
            "SELECT name FROM jobs WHERE owner = ? AND submitted >= ? ORDER BY number",
            (owner, since),
        )
        return [str(name) for (name,) in rows]

    # --- traces that are to be exported

    def due(self, most: int) -> list[tuple[int, str]]:
        """Return jobs whose trace is to be exported, the oldest first, each after its number."""
        rows = self._rows("SELECT number, job FROM due ORDER BY number LIMIT ?", (most,))
        return [(int(number), str(name)) for number, name in rows]

    def due_count(self) -> int:
        """Return how many there are."""
        return int(self._rows("SELECT count(*) FROM due")[0][0])

    def settled(self, numbers: Sequence[int]) -> None:
        """Note that these are not to be exported any more."""
        with self._writing():
            self._db.executemany("DELETE FROM due WHERE number = ?", [(one,) for one in numbers])

    def drop_due(self) -> int:
        """Drop the oldest beyond MOST_DUE; return how many."""
        beyond = "number <= (SELECT max(number) FROM due) - ?"
        if not self._rows(f"SELECT 1 FROM due WHERE {beyond} LIMIT 1", (MOST_DUE,)):  # noqa: S608 - our own words
            return 0
        with self._writing():
            done = self._db.execute(f"DELETE FROM due WHERE {beyond}", (MOST_DUE,))  # noqa: S608
        return int(done.rowcount)


def _phases(text: str) -> tuple[AttemptPhase, ...]:
    return tuple(shapes.read(AttemptPhase, one) for one in json.loads(text))
