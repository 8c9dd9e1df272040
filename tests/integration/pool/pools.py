"""A pool that runs its jobs as processes of this host, and turns only as far as a test lets it."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.agents.agent import Agent
from rave_cli.pool.queue.streams import Fault, Queue
from rave_cli.pool.serving.dispatcher import Dispatcher
from tests.waiting import CEILING, NEVER

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from rave_cli.pool.agents.agent import Attempt
    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import JobStore
    from rave_cli.pool.jobs.work import Work
    from rave_cli.pool.queue.broker import Broker
    from rave_cli.pool.queue.streams import Task
    from rave_cli.transcript import SigningKey

# Seconds. An agent is lost when a test says so, not when this host is busy: whoever takes over asks
# as if every lease had run out.
LEASE = NEVER


class ProcessSandbox:
    """Runs a task as a process of this host: the queue cannot tell it from a machine."""

    def __init__(self) -> None:
        self.began: list[tuple[str, int]] = []

    def prepare(self) -> None:
        """A process can begin at once."""

    def run(self, task: Task, attempt: Attempt) -> int:
        """Run it and return its exit status."""
        self.began.append((task.name, task.attempt))
        child = subprocess.Popen(task.work.command, stdout=subprocess.PIPE, bufsize=0)
        with child, attempt.ended_by(child.kill):
            attempt.begins("1" * 64, "2" * 64)
            assert child.stdout is not None
            while data := child.stdout.read(65536):
                attempt.say(1, data)
            status = child.wait()
        if attempt.broken_off:
            # As a machine that is ended: nothing comes to its end in it.
            raise RaveError("it was ended", exit_code=ExitCode.NOT_READY)
        return status


@dataclass
class Pool:
    """Store, queue and what turns them."""

    store: JobStore
    broker: Broker
    queue: Queue
    stopping: threading.Event
    key: SigningKey
    changes: list[Job] = field(default_factory=list)
    sandbox: ProcessSandbox = field(default_factory=ProcessSandbox)

    def __post_init__(self) -> None:
        self.dispatcher = self.new_dispatcher()

    def new_dispatcher(self) -> Dispatcher:
        """Return a dispatcher, as a new process would have it."""
        return Dispatcher(self.store, self.queue, self.key, self.changes.append)

    def agent(self, name: str = "agent-1") -> Agent:
        """Return an agent."""
        return Agent(name, self.queue, self.sandbox, self.stopping)

    def heir(self, name: str = "heir") -> Agent:
        """Return an agent that takes over what any other has."""
        return Agent(name, self.after_all(), self.sandbox, self.stopping)

    def after_all(self) -> Queue:
        """Return the queue as it is when every lease has run out."""
        queue = Queue(self.broker.client, lease=LEASE)
        queue.idle = 0
        return queue

    def submit(self, *works: Work) -> list[str]:
        """Accept jobs and let the dispatcher put them into the queue."""
        names = [job.name for job in self.store.accept(works)]
        self.turn()
        return names

    def turn(self) -> None:
        """Let the dispatcher do once what there is to do."""
        assert self.dispatcher.turn(wait=0.0)

    def job(self, name: str) -> Job:
        """Return a job as the store has it."""
        return self.store.load(name)

    def over(self, names: list[str]) -> bool:
        """Return whether all these jobs are over."""
        return all(self.job(name).over for name in names)

    def finish(self, names: list[str]) -> None:
        """Let an agent and the dispatcher turn until these jobs are over."""
        self.until(lambda: not self.agent().turn(0.0) and self.over(names))

    def took(self) -> bool:
        """Let an agent turn where the server is slow; it has done nothing that counts: False."""
        with suppress(Fault):
            self.agent().turn(0.0)
        return False

    def until(self, holds: Callable[[], bool]) -> None:
        """Let the dispatcher turn until something holds."""
        end = time.monotonic() + CEILING
        while not holds():
            assert time.monotonic() < end, self.store.newest(20)
            self.dispatcher.turn(wait=0.0)
            time.sleep(0.005)
            self.broker.tend()
