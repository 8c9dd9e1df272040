"""How a pool stands: who serves it, what runs, what waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.pool import served

# Their annotations are read when the program runs.
from rave_cli.pool.jobs.job import Job  # noqa: TC001
from rave_cli.pool.jobs.store import Scale  # noqa: TC001
from rave_cli.pool.served import ServingRecord
from rave_cli.pool.served import served as is_served

if TYPE_CHECKING:
    from rave_cli.pool.jobs.store import JobStore

# Jobs that were given up are listed so far.
MOST_DEAD = 1000


@dataclass(frozen=True)
class PoolStanding:
    """How a pool stands.

    Attributes:
        served: whether anybody serves it.
        said: what whoever serves says of itself; None if nothing can be read.
        wanted: how many agents somebody wants.
        counts: how many jobs are in each state.
        running: the jobs that run.
        oldest: the job that has waited longest, if one waits.
        dead: how many were given up and nobody has dealt with.
    """

    served: bool
    said: ServingRecord | None
    wanted: Scale
    counts: dict[str, int]
    running: tuple[Job, ...]
    oldest: Job | None
    dead: int


def standing(store: JobStore) -> PoolStanding:
    """Return how the pool of a store stands."""
    there = is_served()
    return PoolStanding(
        served=there,
        said=served.read() if there else None,
        wanted=store.scale,
        counts=store.counts(),
        running=tuple(store.running()),
        oldest=store.oldest(),
        dead=store.dead_count(),
    )
