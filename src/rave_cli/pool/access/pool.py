"""What can be asked of a pool, wherever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rave_cli.pool.asking.explaining import JobReason
    from rave_cli.pool.asking.standing import PoolStanding
    from rave_cli.pool.jobs.job import Artifact, Job
    from rave_cli.pool.jobs.spans import JobTrace
    from rave_cli.pool.jobs.store import Piece, Scale
    from rave_cli.pool.jobs.work import Work


class PoolAccess(Protocol):
    """A pool. The beginning of a job's name will do wherever a name is asked for; each of these
    raises RaveError with USAGE if there is no such job, and with HOST or NOT_READY if the pool
    cannot be asked.
    """

    def submit(self, works: Sequence[Work], key: str = "") -> list[Job]:
        """Take in jobs: all of them, durably, or none; what they are given goes with them. With a
        key that was used for the same before, return the jobs that came of that.

        Raises:
            RaveError: NOT_READY if the pool is full; USAGE if the key was used for something else.
        """

    def load(self, name: str) -> Job:
        """Return a job."""

    def newest(self, most: int, states: Sequence[str] = (), *, before: str = "") -> list[Job]:
        """Return jobs, the newest first: those in one of `states`, if any are named, and only what
        was submitted before a job, if one is.
        """

    def output(self, job: Job) -> Iterator[Piece]:
        """Yield what the last attempt at a job has printed so far."""

    def proof(self, job: Job) -> bytes | None:
        """Return the signed statement about a job; None if there is none."""

    def artifact(self, job: Job, one: Artifact) -> Iterator[bytes]:
        """Yield the content of a file that a job left; VERIFICATION if it is not there any more.
        Whoever takes it compares it with what the job says.
        """

    def hand_out(self, job: Job, target: Path) -> None:
        """Copy what a job left into a folder that is not there yet, once it is known to be that.

        Raises:
            RaveError: VERIFICATION if it is not.
        """

    def left(self, job: Job) -> AbstractContextManager[Path]:
        """Have what a job left in a folder meanwhile, once it is known to be that.

        Raises:
            RaveError: on entering, VERIFICATION if it is not.
        """

    def printed(self, job: Job, after: int) -> list[Piece]:
        """Return the next pieces of that, whose numbers are above `after`; none if there are no
        more yet.
        """

    def follow(self, name: str) -> Iterator[Piece | Job]:
        """Yield what the last attempt at a job prints, and the job whenever it is another; ends
        with the job that is over.
        """

    def cancel(self, name: str) -> Job:
        """Note that a job is to be cancelled; one that is over stays as it is."""

    def retry(self, names: Sequence[str] | None) -> list[tuple[Job, Job]]:
        """Take in anew what was asked for by jobs that are over, or, without names, by those that
        were given up; return each with the new one.

        Raises:
            RaveError: USAGE if one is not over; NOT_READY if the pool is full.
        """

    def dead(self) -> list[Job]:
        """Return the jobs that were given up and that nobody has dealt with."""

    def drop(self, names: Sequence[str]) -> None:
        """Note that somebody has dealt with these jobs."""

    def explain(self, name: str) -> tuple[Job, tuple[JobReason, ...]]:
        """Return a job, and why it waits."""

    def trace(self, name: str) -> JobTrace:
        """Return where the time of a job went so far."""

    def standing(self) -> PoolStanding:
        """Return how the pool stands."""

    def scale(self, agents: int | None) -> Scale:
        """Let so many jobs run at a time; None is as many as whoever serves was told."""

    def stand_by(self, machines: int) -> Scale:
        """Keep so many machines that wait for jobs to come."""

    def drain(self, draining: bool) -> Scale:
        """Let no job begin any more, or again."""

    def served(self) -> bool:
        """Return whether anybody serves it."""
