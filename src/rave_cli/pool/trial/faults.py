"""What else goes wrong: a machine, the server's memory, a clock, the disk; and who comes too late,
or all at once. Each with real parts, and with the jobs that it happened to.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.queue.streams import MOST_LOST, Queue
from rave_cli.pool.trial.pool import NEVER, SOON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.pool.jobs.job import Ending
    from rave_cli.pool.trial.pool import PoolTrial

WORK = Work(("echo", "x"), retries=0)

# Of so many bytes that neither the rows of a job nor its output fit into a page that is there.
LARGE = 60_000

# How many submit at once where each point is gone through fifty times.
SUBMITTERS, FULL = 200, 50

# Seconds for a server that stands still to answer, and for something to be under way.
PATIENCE = 0.05


@dataclass(frozen=True)
class Struck:
    """A job that something happened to, and how it should end, and with which output."""

    name: str
    ending: Ending = "success"
    output: bytes = b"x\n"


@dataclass(frozen=True)
class FaultPoint:
    """Something that goes wrong: `strike` lets it, to jobs of its own. `once` is not done again:
    it is told how often others are.
    """

    who: str
    where: str
    strike: Callable[[PoolTrial, int], list[Struck]]
    once: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.who}: {self.where}"


def _machine_killed(trial: PoolTrial, _runs: int) -> list[Struck]:
    # By itself, as soon as it has said something: no sooner and no later.
    dies = 'echo x; [ "$RAVE_ATTEMPT" != 1 ] || kill -9 $$'
    (name,) = trial.submit(Work(("sh", "-c", dies)))
    trial.turn()
    trial.agent().turn(SOON)
    trial.hurry()
    return [Struck(name)]


def _late_finish(trial: PoolTrial, _runs: int) -> list[Struck]:
    (name,) = trial.submit(WORK)
    trial.turn()
    zombie = trial.queue.take("zombie", wait=SOON)
    trial.heir().turn(SOON)
    if zombie is None or zombie.name != name:
        raise _unstruck("nobody had the job")
    heard = trial.queue.say("zombie", zombie, 1, b"late", 1)
    if heard or trial.queue.settle("zombie", zombie, "failure", exit_status=7):
        raise _unstruck("whoever came too late was heard")
    return [Struck(name)]


def _poison(trial: PoolTrial, _runs: int) -> list[Struck]:
    poison, other = trial.submit(WORK, WORK)
    trial.turn()
    victims = trial.after_all()
    for number in range(MOST_LOST + 1):
        # Whoever takes it is gone with it.
        task = victims.take(f"victim-{number}", wait=SOON)
        if task is None or task.name != poison:
            raise _unstruck("nobody took the job")
    return [Struck(poison, "error", b""), Struck(other)]


@contextmanager
def _without_memory(trial: PoolTrial) -> Iterator[None]:
    client = trial.broker.client
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", "1")
    try:
        yield
    finally:
        client.config_set("maxmemory", str(before))


def _no_memory_waiting(trial: PoolTrial, _runs: int) -> list[Struck]:
    trial.turn()
    with _without_memory(trial):
        (name,) = trial.submit(WORK)
        if trial.dispatcher.turn(wait=SOON):
            raise _unstruck("the server took the job")
    return [Struck(name)]


def _no_memory_running(trial: PoolTrial, _runs: int) -> list[Struck]:
    (name,) = trial.submit(Work(("sh", "-c", f"sleep {2 * PATIENCE}; echo x")))
    trial.turn()
    with _meanwhile(trial), _without_memory(trial):
        time.sleep(3 * PATIENCE)
    return [Struck(name)]


@contextmanager
def _standing_still(trial: PoolTrial) -> Iterator[None]:
    child = trial.broker.child
    if child is None:
        raise _unstruck("there is no server")
    os.kill(child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(child.pid, signal.SIGCONT)


def _stopped_waiting(trial: PoolTrial, _runs: int) -> list[Struck]:
    place = trial.broker.client.connection_pool.connection_kwargs["path"]
    retry = Retry(NoBackoff(), 0)
    with redis.Redis(
        unix_socket_path=place, protocol=2, socket_timeout=PATIENCE, retry=retry
    ) as client:
        impatient = trial.new_dispatcher(Queue(client, lease=NEVER))
        with _standing_still(trial):
            (name,) = trial.submit(WORK)
            if impatient.turn(wait=SOON):
                raise _unstruck("the server answered")
    return [Struck(name)]


def _stopped_running(trial: PoolTrial, _runs: int) -> list[Struck]:
    (name,) = trial.submit(Work(("sh", "-c", f"sleep {2 * PATIENCE}; echo x")))
    trial.turn()
    with _meanwhile(trial), _standing_still(trial):
        time.sleep(3 * PATIENCE)
    return [Struck(name)]


@contextmanager
def _meanwhile(trial: PoolTrial) -> Iterator[None]:
    """Let an agent run what waits, which has begun by then."""
    agent = threading.Thread(target=lambda: trial.agent().turn(SOON))
    agent.start()
    try:
        trial.until_something_runs()
        yield
    finally:
        agent.join()


@contextmanager
def _disk_full(trial: PoolTrial) -> Iterator[None]:
    """Let SQLite find no room for one page more, as on a disk that is full."""
    with trial.store.no_larger():
        yield


def _full_accepting(trial: PoolTrial, _runs: int) -> list[Struck]:
    large = Work(("sh", "-c", "echo x", "y" * LARGE))
    with _disk_full(trial):
        _must_fail(lambda: trial.submit(large), "the job was accepted")
    (name,) = trial.submit(large)
    return [Struck(name)]


def _full_recording(trial: PoolTrial, _runs: int) -> list[Struck]:
    (name,) = trial.submit(Work(("sh", "-c", f"head -c {LARGE} /dev/zero | tr '\\0' x")))
    trial.turn()
    trial.agent().turn(SOON)
    # Whoever serves ends by that fault, and is started again: what it heard counts for nothing.
    serving = trial.new_dispatcher(trial.elsewhere())
    with _disk_full(trial):
        _must_fail(lambda: serving.turn(wait=SOON), "the end was recorded")
    return [Struck(name, output=b"x" * LARGE)]


def _must_fail(do: Callable[[], object], or_else: str) -> None:
    try:
        do()
    except RaveError:
        return
    raise _unstruck(or_else)


@contextmanager
def _clock(seconds: float) -> Iterator[None]:
    """Let the time of day of this process be another."""
    real = time.time
    time.time = lambda: real() + seconds
    try:
        yield
    finally:
        time.time = real


def _host_clock(seconds: float) -> Callable[[PoolTrial, int], list[Struck]]:
    def strike(trial: PoolTrial, _runs: int) -> list[Struck]:
        (name,) = trial.submit(WORK)
        trial.turn()
        with _clock(seconds):
            trial.agent().turn(SOON)
            trial.turn()
            (later,) = trial.submit(WORK)
            trial.turn()
        return [Struck(name), Struck(later)]

    return strike


def _server_clock(trial: PoolTrial, _runs: int) -> list[Struck]:
    (name,) = trial.submit(WORK)
    trial.turn()
    alive = trial.queue.take("alive", wait=SOON)
    # To a server whose clock is set forward nobody has spoken for that long.
    trial.queue.abandon(trial.store.origin)
    trial.heir().turn(SOON)
    if alive is None or trial.queue.settle("alive", alive, "success", exit_status=0):
        raise _unstruck("two were heard")
    return [Struck(name)]


def _submitters(trial: PoolTrial, runs: int) -> list[Struck]:
    before = {job.name for job in trial.store.newest(100_000)}
    children = [_submitter(trial) for _ in range(max(1, SUBMITTERS * min(runs, FULL) // FULL))]
    ended = [os.waitpid(child, 0)[1] for child in children]
    struck = [Struck(job.name) for job in trial.store.newest(100_000) if job.name not in before]
    if any(ended) or len(struck) != len(children):
        raise _unstruck(f"{len(struck)} of {len(children)} were accepted")
    return struck


def _submitter(trial: PoolTrial) -> int:
    """Submit a job in a process of its own; return its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with JobStore(trial.store.place) as store:
                store.accept([WORK])
            code = 0
        finally:
            os._exit(code)
    return child


def _unstruck(why: str) -> RaveError:
    return RaveError(
        f"nothing went wrong as it should: {why}",
        hint="rave has a fault: report it with this output",
        exit_code=ExitCode.CHECK_FAILED,
    )


DAY = 86400.0

FAULT_POINTS = (
    FaultPoint("machine", "while its command runs", _machine_killed),
    FaultPoint("agent", "given up, and says late what came of it", _late_finish),
    FaultPoint("job", "whoever takes it is lost; another beside it", _poison),
    FaultPoint("redis-server", "without memory, while a job waits", _no_memory_waiting),
    FaultPoint("redis-server", "without memory, while a job runs", _no_memory_running),
    FaultPoint("redis-server", "stopped (SIGSTOP), while a job waits", _stopped_waiting),
    FaultPoint("redis-server", "stopped (SIGSTOP), while a job runs", _stopped_running),
    FaultPoint("disk", "full, when a job is accepted", _full_accepting),
    FaultPoint("disk", "full, when its end is recorded", _full_recording),
    FaultPoint("clock", "of the host, a day ahead", _host_clock(DAY)),
    FaultPoint("clock", "of the host, a day back", _host_clock(-DAY)),
    FaultPoint("clock", "of redis-server, ahead of every lease", _server_clock),
    FaultPoint("submitters", "many at once", _submitters, once=True),
)
