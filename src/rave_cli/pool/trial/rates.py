"""How much the pool takes in and passes on, apart from what machines cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.pool.jobs.work import Work
from rave_cli.pool.trial.pool import SOON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.pool.trial.pool import PoolTrial

WORK = Work(("true",))
AT_A_TIME = 100


@dataclass(frozen=True)
class PoolRate:
    """What was measured: how many jobs, in how many seconds."""

    what: str
    jobs: int
    seconds: float

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.jobs / self.seconds if self.seconds else 0.0


def rates(trial: PoolTrial, jobs: int) -> Iterator[PoolRate]:
    """Measure each step with so many jobs, and yield what was found."""

    def one_by_one() -> None:
        for _ in range(jobs):
            trial.store.accept([WORK])

    def together() -> None:
        for at in range(0, jobs, AT_A_TIME):
            trial.store.accept([WORK] * min(AT_A_TIME, jobs - at))

    def ended() -> None:
        agent = trial.agent()
        for _ in range(jobs):
            agent.turn(SOON)
            trial.turn()

    yield _measured("accepted durably, one at a time", jobs, one_by_one)
    yield _measured(f"accepted durably, {AT_A_TIME} at a time", jobs, together)
    yield _measured("put into the queue", 2 * jobs, trial.turn)
    yield _measured("begun, run as a process, ended and signed for", jobs, ended)


def _measured(what: str, jobs: int, do: Callable[[], None]) -> PoolRate:
    began = time.perf_counter()
    do()
    return PoolRate(what, jobs, round(time.perf_counter() - began, 6))
