"""The agents that work side by side: as many as are wanted now, and what holds them up."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.pool.agents import agent as work
from rave_cli.pool.agents import disk
from rave_cli.pool.agents.agent import Agent
from rave_cli.pool.queue.streams import Fault
from rave_cli.pool.served import FREE, HoldUp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.agents.agent import Sandbox
    from rave_cli.pool.agents.room import Room
    from rave_cli.pool.queue.streams import Queue


log = logging.getLogger("rave.pool")

# Seconds before an agent asks again for a server that does not answer, or for a template that
# could not be made.
AGAIN = 0.5
MAKES_AGAIN = 10.0

# Seconds after which whoever makes sure that there is a template makes one: to look takes less.
MAKES = 5.0

MAKING = HoldUp("making", "a template of the image that there is now is made, which takes a boot")


class Crew:
    """Agents in threads of this process; `who` begins their names.

    An agent beyond `scale` takes no job any more; the one that it has comes to its end.
    """

    def __init__(self, queue: Queue, box: Sandbox, room: Room, who: str) -> None:
        self._queue, self._box, self._room, self._who = queue, box, room, who
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._working = 0
        self._wanted = 0
        self._hold = FREE
        # Since when agents make sure that a job could begin.
        self._preparing: dict[int, float] = {}

    @property
    def hold(self) -> HoldUp:
        """What keeps agents from taking jobs."""
        with self._lock:
            since = min(self._preparing.values(), default=None)
        if since is not None and time.monotonic() - since > MAKES:
            return MAKING
        return self._hold

    @property
    def working(self) -> int:
        """How many agents have a job, or may be about to take one."""
        return self._working

    def scale(self, wanted: int) -> None:
        """Let so many agents take jobs from now on."""
        self._wanted = wanted
        while len(self._threads) < wanted:
            number = len(self._threads) + 1
            thread = threading.Thread(target=self._work, args=(number,), name=f"agent {number}")
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Let each agent give up the job that it has, and wait until all have left."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        agent = Agent(f"{self._who}-{number}", self._queue, self._box, self._stopping)
        while not self._stopping.is_set():
            if not self._enter(number):
                self._stopping.wait(work.NOTICES / 4)
                continue
            try:
                rests = self._turn(agent)
            finally:
                self._leave()
            if rests:
                self._stopping.wait(rests)
        agent.leave()

    def _enter(self, number: int) -> bool:
        with self._lock:
            there = number <= self._wanted
            self._working += there
            return there

    def _leave(self) -> None:
        with self._lock:
            self._working -= 1

    def _turn(self, agent: Agent) -> float:
        """Let an agent take a job, if one can begin; return the seconds for which it then rests."""
        try:
            with self._room.kept() as lacks:
                held = HoldUp("memory", lacks) if lacks else disk.full()
                if held is not None:
                    self._hold = held
                    return work.NOTICES
                with self._prepared():
                    self._box.prepare()
                self._hold = FREE
                agent.turn(work.NOTICES)
        except RaveError as error:
            self._hold = HoldUp("template", error.message, error.hint or "")
            return MAKES_AGAIN
        except Fault as error:
            self._hold = HoldUp("queue", f"the Redis server does not answer: {error}")
            return AGAIN
        except Exception:
            # What went wrong with one job does not keep it from the next.
            log.exception("%s has a fault", agent.name)
            return AGAIN
        return 0.0

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        """Note meanwhile that an agent makes sure that a job could begin."""
        me = threading.get_ident()
        with self._lock:
            self._preparing[me] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._preparing[me]
