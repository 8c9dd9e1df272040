"""The crash matrix: whatever is killed wherever, each job ends once, and none is lost.

RAVE_CRASH_RUNS says how often each point is gone through; 3 keeps a test run short.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rave_cli.errors import RaveError
from rave_cli.pool.agents import agent as agents_module
from rave_cli.pool.agents.agent import Agent
from rave_cli.pool.jobs.job import Ended
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.queue.broker import Broker
from rave_cli.pool.queue.streams import Queue
from rave_cli.pool.serving.dispatcher import Dispatcher
from rave_cli.pool.trial import crashes
from rave_cli.pool.trial.pool import on_trial
from rave_cli.transcript import signing_key
from tests import kills
from tests.waiting import CEILING

from .pools import LEASE, ProcessSandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .pools import Pool

pytestmark = pytest.mark.integration

RUNS = int(os.environ.get("RAVE_CRASH_RUNS", "3"))

SOON = 0.0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(where: type, method: str, when: str) -> None:
    """Let this process be killed before or after the first call of a method."""
    real = getattr(where, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            die()
        found = real(*args, **kwargs)
        die()
        return found

    setattr(where, method, call)


def killed(do: Callable[[], None]) -> None:
    """Do something in a process of its own, which must be killed by it."""
    child = os.fork()
    if child == 0:
        try:
            do()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it came to its end"
    assert os.WTERMSIG(status) == signal.SIGKILL
    kills.count()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count how often the queue told of each job that it is over."""
    counts: Counter[str] = Counter()
    real = Queue.happenings

    def happenings(self: Queue, origin: str, after: str, *, wait: float) -> Any:
        found, last = real(self, origin, after, wait=wait)
        if last != after:
            counts.update(name for name, what in found if isinstance(what, Ended))
        return found, last

    monkeypatch.setattr(Queue, "happenings", happenings)
    yield counts
    assert {name: count for name, count in counts.items() if count != 1} == {}


# Where an agent is killed: the class, the method, and whether before or after it.
AGENT_DIES = {
    "before it reads": (Queue, "take", "before"),
    "after it read, before it began": (Queue, "_begun", "before"),
    "after it began": (ProcessSandbox, "run", "before"),
    "while the job prints": (Queue, "say", "after"),
    "after the job, before it says so": (Queue, "settle", "before"),
    "after it said so": (Queue, "settle", "after"),
}


@pytest.mark.parametrize("point", AGENT_DIES)
def test_an_agent_is_killed(pool: Pool, told: Counter[str], tmp_path: Path, point: str) -> None:
    effects = tmp_path / "effects"
    names = pool.submit(*[Work(("sh", "-c", f"echo x | tee -a {effects}"))] * RUNS)
    socket = pool.broker.client.connection_pool.connection_kwargs["path"]

    def do() -> None:
        dying(*AGENT_DIES[point])
        queue = Queue(redis.Redis(unix_socket_path=socket, protocol=2), lease=LEASE)
        Agent("victim", queue, ProcessSandbox(), threading.Event()).turn(SOON)

    for _ in names:
        killed(do)
        pool.turn()
    pool.until(lambda: not pool.heir().turn(SOON) and pool.over(names))
    assert {pool.job(name).state for name in names} == {"success"}
    assert sorted(told) == sorted(names)
    # An attempt that came to its end, of which nobody heard, is made again; no other is.
    ran_before = point in ("while the job prints", "after the job, before it says so")
    assert len(effects.read_text().splitlines()) == RUNS * (1 + ran_before)
    assert pool.broker.client.keys("rave:job:*") == []


DISPATCHER_DIES = {
    "before the queue has a job": (Queue, "enqueue", "before"),
    "after it has it, before the store knows": (Queue, "enqueue", "after"),
    "after the store knows": (JobStore, "queued", "after"),
    "before the store has what happened": (JobStore, "record", "before"),
    "after the store has it, before the queue forgets": (JobStore, "record", "after"),
    "after the queue forgot": (Queue, "forget", "after"),
    "before it cancels": (Queue, "withdraw", "before"),
    "after it cancelled": (Queue, "withdraw", "after"),
}


@pytest.mark.parametrize("point", DISPATCHER_DIES)
def test_a_dispatcher_is_killed(pool: Pool, told: Counter[str], point: str) -> None:
    kwargs = pool.broker.client.connection_pool.connection_kwargs
    place = pool.store.place

    def do() -> None:
        dying(*DISPATCHER_DIES[point])
        queue = Queue(redis.Redis(unix_socket_path=kwargs["path"], protocol=2), lease=LEASE)
        with JobStore(place) as store:
            Dispatcher(store, queue, pool.key, lambda _job: None).turn(wait=SOON)

    cancels = "cancel" in point
    for _ in range(RUNS):
        (name,) = [job.name for job in pool.store.accept([Work(("echo", "x"))])]
        if "job" not in point and "knows" not in point:
            pool.turn()
            if cancels:
                pool.store.cancel(name)
            else:
                assert pool.agent().turn(SOON)
        killed(do)
        pool.dispatcher = pool.new_dispatcher()
        pool.turn()
        pool.finish([name])
        assert pool.job(name).state == ("cancelled" if cancels else "success")
        if not cancels:
            assert [piece.data for piece in pool.store.output(pool.job(name))] == [b"x\n"]
    assert pool.queue.length() == 0


@pytest.mark.parametrize("where", ["waiting", "running", "delayed", "over"])
def test_redis_is_wiped(pool: Pool, where: str) -> None:
    (name,) = pool.submit(Work(("true",), retries=1))
    task = None
    if where != "waiting":
        task = pool.queue.take("agent", wait=SOON)
        assert task is not None
        pool.turn()
    if task is not None and where == "delayed":
        pool.queue.settle("agent", task, "failure", delay=1000)
    if task is not None and where == "over":
        pool.queue.settle("agent", task, "success", exit_status=0)
    pool.broker.client.flushall()
    if task is not None:
        assert pool.queue.renew("agent", task) == "lost"
        assert not pool.queue.settle("agent", task, "success", exit_status=0)
    pool.finish([name])
    job = pool.job(name)
    assert job.state == "success"
    assert job.attempt == (1 if where == "waiting" else 2)


def test_redis_is_killed_under_a_job(pool: Pool) -> None:
    (name,) = pool.submit(Work(("sleep", "0.5")))
    worker = threading.Thread(target=pool.agent().turn)
    worker.start()
    pool.until(lambda: pool.job(name).state == "running")
    assert pool.broker.child is not None
    os.kill(pool.broker.child.pid, signal.SIGKILL)
    pool.broker.child.wait()
    assert not pool.dispatcher.turn(wait=SOON)
    assert pool.broker.tend()
    pool.until(lambda: pool.over([name]))
    worker.join()
    # What the server wrote down suffices: it was not run twice.
    assert (pool.job(name).state, pool.job(name).attempt) == ("success", 1)


def test_what_redis_wrote_down_is_damaged(pool: Pool) -> None:
    names = pool.submit(*[Work(("true",))] * 3)
    assert pool.broker.child is not None
    os.kill(pool.broker.child.pid, signal.SIGKILL)
    pool.broker.child.wait()
    for file in pool.broker.folder.rglob("*"):
        if file.is_file():
            file.write_bytes(b"?" * 300)
    assert pool.broker.tend()
    pool.finish(names)
    assert {pool.job(name).state for name in names} == {"success"}


def test_redis_stands_still(pool: Pool) -> None:
    socket = pool.broker.client.connection_pool.connection_kwargs["path"]
    assert pool.broker.child is not None
    pid = pool.broker.child.pid
    with redis.Redis(
        unix_socket_path=socket, protocol=2, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)
    ) as client:
        pool.queue = Queue(client, lease=LEASE)
        pool.dispatcher = pool.new_dispatcher()
        os.kill(pid, signal.SIGSTOP)
        try:
            (job,) = pool.store.accept([Work(("true",))])
            assert not pool.dispatcher.turn(wait=SOON)
        finally:
            os.kill(pid, signal.SIGCONT)
        pool.until(lambda: pool.over([job.name]) or pool.took())
    assert (pool.job(job.name).state, pool.job(job.name).attempt) == ("success", 1)


def test_redis_has_no_memory(pool: Pool) -> None:
    client = pool.broker.client
    pool.turn()
    before = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", "1")
    try:
        (job,) = pool.store.accept([Work(("true",))])
        assert not pool.dispatcher.turn(wait=SOON)
        assert pool.job(job.name).state == "waiting"
    finally:
        client.config_set("maxmemory", str(before))
    pool.finish([job.name])
    assert pool.job(job.name).state == "success"


def test_an_agent_says_what_came_of_a_job_once_redis_is_back(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = pool.submit(Work(("true",)))
    monkeypatch.setattr(agents_module, "NOTICES", 0.02)
    real, left = Queue.settle, [3]

    def settle(*args: Any, **kwargs: Any) -> bool:
        left[0] -= 1
        if left[0] >= 0:
            raise redis.ConnectionError("it is away")
        return real(*args, **kwargs)

    monkeypatch.setattr(Queue, "settle", settle)
    assert pool.agent().turn(SOON)
    pool.turn()
    assert pool.job(name).state == "success"


def test_many_submit_at_once_while_agents_are_killed(pool: Pool, told: Counter[str]) -> None:
    place = pool.store.place
    accepted: list[str] = []

    def submit() -> None:
        with JobStore(place) as store:
            accepted.extend(job.name for job in store.accept([Work(("true",))]))

    many = [threading.Thread(target=submit) for _ in range(20)]
    for one in many:
        one.start()
    for one in many:
        one.join()
    socket = pool.broker.client.connection_pool.connection_kwargs["path"]
    points = list(AGENT_DIES.values())

    def do(number: int) -> None:
        dying(*points[number % len(points)])
        queue = Queue(redis.Redis(unix_socket_path=socket, protocol=2), lease=LEASE)
        Agent(f"victim-{number}", queue, ProcessSandbox(), threading.Event()).turn(SOON)

    pool.turn()
    for number in range(12):
        try:
            killed(partial(do, number))
        except AssertionError:
            # It found nothing that printed.
            kills.count()
        pool.turn()
    pool.until(lambda: not pool.heir().turn(SOON) and pool.over(accepted))
    assert len(set(accepted)) == 20
    assert {pool.job(name).state for name in accepted} == {"success"}
    assert sorted(told) == sorted(accepted)


def test_the_crash_matrix_that_users_run_finds_all_well(home: Path) -> None:
    argv = [sys.executable, "-m", "rave_cli", "pool", "bench", "--crash", "--runs", "1", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=CEILING, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["point"] for one in found] == [point.name for point in crashes.POINTS]
    assert all(one["jobs"] == one["ended"] > 0 for one in found), found
    assert {(one["lost"], one["twice"]) for one in found} == {(0, 0)}
    # Nothing of it is left, and the pool of whoever asked had no part in it.
    assert not (home / ".local/share/rave/pool").exists()


def test_the_crash_matrix_sees_what_is_lost(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashes, "WORK", Work(("false",)))
    with on_trial(signing_key()) as trial:
        found = crashes.go_through(trial, crashes.AGENT_POINTS[0], 1)
        assert (found.lost, found.good) == (1, False)
        # Something that is not killed is no crash that was survived.
        never = replace(crashes.AGENT_POINTS[0], owner=Broker, method="end")
        with pytest.raises(RaveError, match="nothing was killed"):
            crashes.go_through(trial, never, 1)
