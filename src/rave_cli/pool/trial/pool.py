"""A pool on trial: a real store and a real redis-server in a folder of their own, whose jobs run as
processes of this host and that turns only as far as it is let.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.agents.agent import Agent
from rave_cli.pool.jobs.job import Ended
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.queue.broker import Broker
from rave_cli.pool.queue.streams import DELAYED, GROUP, JOBS, Queue, check_version
from rave_cli.pool.serving.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.agents.agent import Attempt
    from rave_cli.pool.jobs.job import Happening, Job
    from rave_cli.pool.jobs.work import Work
    from rave_cli.pool.queue.streams import Task
    from rave_cli.transcript import SigningKey

# Seconds. An agent is lost when the trial says so, not when this host is busy: whoever takes over
# asks as if every lease had run out.
NEVER = 1e6
SOON = 0.0
LOOK = 0.005


class ProcessSandbox:
    """Runs a task as a process of this host: the queue cannot tell it from a machine."""

    def prepare(self) -> None:
        """A process can begin at once."""

    def run(self, task: Task, attempt: Attempt) -> int:
        """Run it and return its exit status."""
        told = {"RAVE_JOB": task.name, "RAVE_ATTEMPT": str(task.attempt)}
        child = subprocess.Popen(
            task.work.command, stdout=subprocess.PIPE, bufsize=0, env=os.environ | told
        )
        with child, attempt.ended_by(child.kill):
            attempt.begins("1" * 64, "2" * 64)
            assert child.stdout is not None  # noqa: S101 - a pipe was asked for
            while data := child.stdout.read(65536):
                attempt.say(1, data)
            status = child.wait()
        if attempt.broken_off or status < 0:
            # As a machine that is ended: nothing comes to its end in it.
            raise RaveError("it was ended", exit_code=ExitCode.NOT_READY)
        return status


class CountingQueue(Queue):
    """A queue that counts how often it tells of each job that it is over."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client, lease=NEVER)
        self.ends: Counter[str] = Counter()

    def happenings(
        self, origin: str, after: str, *, wait: float
    ) -> tuple[list[tuple[str, Happening]], str]:
        """As the queue does."""
        found, last = super().happenings(origin, after, wait=wait)
        self.ends.update(name for name, what in found if isinstance(what, Ended))
        return found, last


class PoolTrial:
    """Store, queue and what turns them."""

    def __init__(self, store: JobStore, broker: Broker, key: SigningKey) -> None:
        self.store, self.broker, self.key = store, broker, key
        self.queue = CountingQueue(broker.client)
        self.dispatcher = self.new_dispatcher()

    def new_dispatcher(self, queue: Queue | None = None) -> Dispatcher:
        """Return a dispatcher, as a new process would have it."""
        return Dispatcher(self.store, queue or self.queue, self.key, lambda _job: None)

    def agent(self, name: str = "agent-1", queue: Queue | None = None) -> Agent:
        """Return an agent."""
        return Agent(name, queue or self.queue, ProcessSandbox(), threading.Event())

    def heir(self) -> Agent:
        """Return an agent that takes over what any other has."""
        return self.agent("heir", self.after_all())

    def after_all(self) -> Queue:
        """Return the queue as it is when every lease has run out."""
        queue = Queue(self.broker.client, lease=NEVER)
        queue.idle = 0
        return queue

    def elsewhere(self) -> Queue:
        """Return the queue as another process has it."""
        place = self.broker.client.connection_pool.connection_kwargs["path"]
        return Queue(redis.Redis(unix_socket_path=place, protocol=2), lease=NEVER)

    def hurry(self) -> None:
        """Let what rests have rested."""
        delayed: Any = self.broker.client.zrange(DELAYED, 0, -1)
        if delayed:
            self.broker.client.zadd(DELAYED, dict.fromkeys(delayed, 0.0), xx=True)

    def until_something_runs(self) -> None:
        """Wait until an agent has taken a job."""
        while not self.broker.client.xpending(JOBS, GROUP)["pending"]:
            time.sleep(LOOK)

    def submit(self, *works: Work) -> list[str]:
        """Accept jobs; return their names."""
        return [job.name for job in self.store.accept(works)]

    def turn(self) -> None:
        """Let the dispatcher do once what there is to do; a server that ended is started."""
        if not self.dispatcher.turn(wait=SOON):
            self.broker.tend()

    def finish(self, names: list[str]) -> list[Job]:
        """Turn until jobs are over, by agents that take over what others had; return the jobs."""
        heir = self.heir()
        while True:
            self.turn()
            if not heir.turn(SOON):
                jobs = [self.store.load(name) for name in names]
                if all(job.over for job in jobs):
                    return jobs
                time.sleep(LOOK)


@contextmanager
def on_trial(key: SigningKey) -> Iterator[PoolTrial]:
    """Make a pool for a trial; nothing is left of it.

    Raises:
        RaveError: HOST if there is no redis-server, or it is too old or does not start.
    """
    # A short path: it holds a socket.
    with tempfile.TemporaryDirectory(prefix="rave-trial-", ignore_cleanup_errors=True) as text:
        place = Path(text)
        broker = Broker(place / "redis", place / "s")
        try:
            broker.tend()
            check_version(broker.client)
            with JobStore(place / "pool/jobs.sqlite") as store:
                yield PoolTrial(store, broker, key)
        finally:
            broker.end()
            shutil.rmtree(place / "redis", ignore_errors=True)
