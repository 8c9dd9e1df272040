"""The crash matrix: whoever is killed wherever, each job ends once, and none is lost.

Each point is gone through with real parts: SQLite, a redis-server, processes that SIGKILL ends.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.queue.streams import Queue
from rave_cli.pool.serving.dispatcher import Dispatcher
from rave_cli.pool.trial.faults import FAULT_POINTS, FaultPoint, Struck
from rave_cli.pool.trial.pool import SOON, ProcessSandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rave_cli.pool.trial.pool import PoolTrial

WORK = Work(("echo", "x"), retries=0)


@dataclass(frozen=True)
class CrashPoint:
    """Where something is killed: before or after the first call of a method, in its process."""

    who: Literal["agent", "dispatcher", "redis-server"]
    where: str
    owner: type | None = None
    method: str = ""
    when: Literal["before", "after"] = "before"

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.who}: {self.where}"


@dataclass(frozen=True)
class CrashResult:
    """What came of a point.

    Attributes:
        point: what it is called.
        kills: how often something was killed, or went wrong, there.
        jobs: how many were accepted.
        ended: how many of them ended as they should: as success, but for one that loses whoever
            takes it.
        lost: how many did not end so.
        twice: how many were told more than once to be over, or whose output or proof is not there
            once.
        again: how many were tried again, since nobody heard the end of an attempt.
        seconds: for all of it.
    """

    point: str
    kills: int
    jobs: int
    ended: int
    lost: int
    twice: int
    again: int
    seconds: float

    @property
    def good(self) -> bool:
        """Whether each job ended, once."""
        return not self.lost and not self.twice


AGENT_POINTS = (
    CrashPoint("agent", "before it reads", Queue, "take"),
    CrashPoint("agent", "after it read, before it began", Queue, "_begun"),
    CrashPoint("agent", "after it began", ProcessSandbox, "run"),
    CrashPoint("agent", "while the job prints", Queue, "say", "after"),
    CrashPoint("agent", "after the job, before it says so", Queue, "settle"),
    CrashPoint("agent", "after it said so", Queue, "settle", "after"),
)
DISPATCHER_POINTS = (
    CrashPoint("dispatcher", "before the queue has a job", Queue, "enqueue"),
    CrashPoint("dispatcher", "after it has it, before the store knows", Queue, "enqueue", "after"),
    CrashPoint("dispatcher", "after the store knows", JobStore, "queued", "after"),
    CrashPoint("dispatcher", "before the store has what happened", JobStore, "record"),
    CrashPoint("dispatcher", "while it signs for a job", Dispatcher, "_seal"),
    CrashPoint("dispatcher", "after it signed, before that is kept", Dispatcher, "_seal", "after"),
    CrashPoint("dispatcher", "after the store has it", JobStore, "record", "after"),
    CrashPoint("dispatcher", "after the queue forgot", Queue, "forget", "after"),
)
SERVER_POINTS = (
    CrashPoint("redis-server", "while a job waits"),
    CrashPoint("redis-server", "while a job runs"),
    CrashPoint("redis-server", "wiped, while a job runs"),
)
POINTS = (*AGENT_POINTS, *DISPATCHER_POINTS, *SERVER_POINTS, *FAULT_POINTS)


def matrix(trial: PoolTrial, runs: int) -> Iterator[CrashResult]:
    """Go through every point so often, and yield what came of each.

    Raises:
        RaveError: CHECK_FAILED if something that should have been killed was not.
    """
    for point in POINTS:
        yield go_through(trial, point, runs)


def go_through(trial: PoolTrial, point: CrashPoint | FaultPoint, runs: int) -> CrashResult:
    """Go through a point so often.

    Raises:
        RaveError: as `matrix`.
    """
    began = time.monotonic()
    struck = list[Struck]()
    times = 1 if isinstance(point, FaultPoint) and point.once else runs
    for _ in range(times):
        found = _struck(trial, point, runs)
        struck += found
        trial.finish([one.name for one in found])
    return _result(trial, point.name, times, struck, time.monotonic() - began)


def _struck(trial: PoolTrial, point: CrashPoint | FaultPoint, runs: int) -> list[Struck]:
    if isinstance(point, FaultPoint):
        return point.strike(trial, runs)
    (name,) = trial.submit(WORK)
    if point.who == "agent":
        trial.turn()
        _killed(point, lambda: trial.agent("victim", trial.elsewhere()).turn(SOON))
    elif point.who == "dispatcher":
        _under_a_dispatcher(trial, point)
    else:
        _under_a_server(trial, point)
    return [Struck(name)]


def _result(
    trial: PoolTrial, point: str, times: int, struck: Sequence[Struck], seconds: float
) -> CrashResult:
    jobs = {one: trial.store.load(one.name) for one in struck}
    good = [one for one, job in jobs.items() if job.state == one.ending]
    twice = [
        one
        for one, job in jobs.items()
        if trial.queue.ends[one.name] > 1
        or b"".join(piece.data for piece in trial.store.output(job)) != one.output
        or trial.store.proof(one.name) is None
    ]
    return CrashResult(
        point=point,
        kills=times,
        jobs=len(jobs),
        ended=len(good),
        lost=len(jobs) - len(good),
        twice=len(twice),
        again=sum(job.attempt > 1 for job in jobs.values()),
        seconds=round(seconds, 3),
    )


def _under_a_dispatcher(trial: PoolTrial, point: CrashPoint) -> None:
    if point.method not in ("enqueue", "queued"):
        trial.turn()
        trial.agent().turn(SOON)
    place = trial.store.place

    def turn() -> None:
        with JobStore(place) as store:
            Dispatcher(store, trial.elsewhere(), trial.key, lambda _job: None).turn(wait=SOON)

    _killed(point, turn)
    trial.dispatcher = trial.new_dispatcher()


def _under_a_server(trial: PoolTrial, point: CrashPoint) -> None:
    trial.turn()
    if "runs" in point.where:
        trial.queue.take("victim", wait=SOON)
    if "wiped" in point.where:
        trial.broker.client.flushall()
        return
    child = trial.broker.child
    if child is not None:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()


def _killed(point: CrashPoint, do: Callable[[], object]) -> None:
    """Do something in a process of its own, which is killed at a point."""
    child = os.fork()
    if child == 0:
        try:
            _arm(point)
            do()
        finally:
            # It came to its end, or failed.
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise RaveError(
            f"nothing was killed: {point.name}",
            hint="rave has a fault: report it with this output",
            exit_code=ExitCode.CHECK_FAILED,
        )


def _arm(point: CrashPoint) -> None:
    """Let this process be killed at a point."""
    real = getattr(point.owner, point.method)

    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes
        if point.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(point.owner, point.method, call)
