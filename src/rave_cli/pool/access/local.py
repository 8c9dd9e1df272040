"""The pool of whoever calls, on this host: its store, and what is asked of that."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.asking import explaining, following
from rave_cli.pool.asking.standing import MOST_DEAD, standing
from rave_cli.pool.files import artifacts
from rave_cli.pool.jobs import spans
from rave_cli.pool.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rave_cli.pool.asking.explaining import JobReason
    from rave_cli.pool.asking.standing import PoolStanding
    from rave_cli.pool.jobs.job import Artifact, Job
    from rave_cli.pool.jobs.spans import JobTrace
    from rave_cli.pool.jobs.store import JobStore, Piece, Scale
    from rave_cli.pool.jobs.work import Work


@dataclass(frozen=True)
class LocalPool:
    """A PoolAccess over an open store, for `owner`; for one thread, as that is."""

    store: JobStore
    owner: str = ""

    def submit(self, works: Sequence[Work], key: str = "") -> list[Job]:
        """As PoolAccess."""
        return self.store.accept(works, owner=self.owner, key=key)

    def load(self, name: str) -> Job:
        """As PoolAccess."""
        return self.store.load(name)

    def newest(self, most: int, states: Sequence[str] = (), *, before: str = "") -> list[Job]:
        """As PoolAccess."""
        return self.store.newest(most, states, self.store.load(before).name if before else "")

    def output(self, job: Job) -> Iterator[Piece]:
        """As PoolAccess."""
        return self.store.output(job)

    def printed(self, job: Job, after: int) -> list[Piece]:
        """As PoolAccess."""
        return self.store.printed(job.name, job.attempt, after)

    def proof(self, job: Job) -> bytes | None:
        """As PoolAccess."""
        return self.store.proof(job.name)

    def artifact(self, job: Job, one: Artifact) -> Iterator[bytes]:
        """As PoolAccess."""
        return artifacts.read_kept(job, one)

    def hand_out(self, job: Job, target: Path) -> None:
        """As PoolAccess."""
        artifacts.hand_out(job, target)

    @contextmanager
    def left(self, job: Job) -> Iterator[Path]:
        """As PoolAccess."""
        artifacts.refuse_changed(job)
        yield artifacts.place_of(job.name, job.attempt)

    def follow(self, name: str) -> Iterator[Piece | Job]:
        """As PoolAccess; NOT_READY if nobody serves it."""
        return following.follow(self.store, self.store.load(name).name)

    def cancel(self, name: str) -> Job:
        """As PoolAccess."""
        return self.store.cancel(self.store.load(name).name)

    def retry(self, names: Sequence[str] | None) -> list[tuple[Job, Job]]:
        """As PoolAccess."""
        asked = self.dead() if names is None else [self.store.load(name) for name in names]
        # Each once, whatever beginnings of its name were given.
        found = list({job.name: job for job in asked}.values())
        for job in found:
            if not job.over:
                raise RaveError(
                    f"job {job.name} is not over: it is {job.state}",
                    hint=f"rave pool explain {job.name}",
                    exit_code=ExitCode.USAGE,
                )
        return list(zip(found, self.store.retry(found, owner=self.owner), strict=True))

    def dead(self) -> list[Job]:
        """As PoolAccess."""
        return self.store.dead(MOST_DEAD)

    def drop(self, names: Sequence[str]) -> None:
        """As PoolAccess."""
        self.store.drop([self.store.load(name).name for name in names])

    def explain(self, name: str) -> tuple[Job, tuple[JobReason, ...]]:
        """As PoolAccess."""
        job = self.store.load(name)
        return job, explaining.explain(job, explaining.look(self.store, job))

    def trace(self, name: str) -> JobTrace:
        """As PoolAccess."""
        return spans.trace_of(self.store.history(self.store.load(name)))

    def standing(self) -> PoolStanding:
        """As PoolAccess."""
        return standing(self.store)

    def scale(self, agents: int | None) -> Scale:
        """As PoolAccess."""
        self.store.set_scale(replace(self.store.scale, agents=agents))
        return self.store.scale

    def stand_by(self, machines: int) -> Scale:
        """As PoolAccess."""
        self.store.set_scale(replace(self.store.scale, standby=machines))
        return self.store.scale

    def drain(self, draining: bool) -> Scale:
        """As PoolAccess."""
        self.store.set_scale(replace(self.store.scale, draining=draining))
        return self.store.scale

    def served(self) -> bool:
        """As PoolAccess."""
        return served()
