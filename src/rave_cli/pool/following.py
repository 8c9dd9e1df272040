"""Follows a job: what it prints and what becomes of it, as the store hears of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.jobs import Job
    from rave_cli.pool.jobstore import JobStore, Piece

# Seconds between two looks into the store, and between two at whether anybody serves.
LOOK = 0.1
ASKS = 2.0


def follow(store: JobStore, name: str) -> Iterator[Piece | Job]:
    """Yield what the last attempt at a job prints, and the job whenever it is another; ends with
    the job that is over.

    Raises:
        RaveError: NOT_READY if nobody serves the pool, so that nothing would come any more.
    """
    known, attempt, after, asked = None, -1, 0, time.monotonic()
    while True:
        job = store.load(name)
        if job.attempt != attempt:
            attempt, after = job.attempt, 0
        if job != known and not job.over:
            known = job
            yield job
        pieces = store.printed(name, job.attempt, after)
        for piece in pieces:
            after = piece.number
            yield piece
        if pieces:
            continue
        if job.over:
            yield job
            return
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
