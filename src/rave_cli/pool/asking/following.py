"""Follows a job: what it prints and what becomes of it, as the store hears of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import JobStore, Piece

# Seconds between two looks at whether the store is another, and between two at whether anybody
# serves.
LOOK = 0.01
ASKS = 2.0


class FollowedJob:
    """What is new of a job, from one look into the store to the next, until it is `over`."""

    def __init__(self, name: str) -> None:
        self.over = False
        self._name = name
        self._known: Job | None = None
        self._attempt, self._after = -1, 0
        self._version: tuple[int, int] | None = None

    def look(self, store: JobStore) -> list[Piece | Job]:
        """Return the job if it is another than before, and what its last attempt printed since; of
        one that is over all that it printed comes first. Nothing is new where nobody has written.
        """
        version = store.version
        if version == self._version:
            return []
        job = store.load(self._name)
        if job.attempt != self._attempt:
            self._attempt, self._after = job.attempt, 0
        told: list[Piece | Job] = []
        if job != self._known and not job.over:
            self._known = job
            told.append(job)
        pieces = store.printed(self._name, job.attempt, self._after)
        if pieces:
            self._after = pieces[-1].number
            told += pieces
        elif job.over:
            self.over = True
            told.append(job)
        if not told:
            # More may be left of what was there by then.
            self._version = version
        return told


def follow(store: JobStore, name: str) -> Iterator[Piece | Job]:
    """Yield what the last attempt at a job prints, and the job whenever it is another; ends with
    the job that is over.

    Raises:
        RaveError: NOT_READY if nobody serves the pool, so that nothing would come any more.
    """
    following, asked = FollowedJob(name), time.monotonic()
    while not following.over:
        told = following.look(store)
        yield from told
        if told:
            continue
        if time.monotonic() - asked > ASKS:
            asked = time.monotonic()
            require_served(name)
        time.sleep(LOOK)


def require_served(name: str | None = None) -> None:
    """Refuse to wait where nobody serves the pool. `name` is a job that waits all the same.

    Raises:
        RaveError: NOT_READY.
    """
    if not served():
        raise RaveError(
            "nobody serves the pool" + (f": job {name} waits until somebody does" if name else ""),
            hint="rave pool serve   (in another terminal, or as a service)",
            exit_code=ExitCode.NOT_READY,
        )
