"""Works for pools of other hosts: takes jobs from a shared server, a number of them, and ends.

It owns no job and keeps none: what it is told to run, and what comes of it, goes over the server.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import templates
from rave_cli.flows.events import Event
from rave_cli.machines.templates.key import require_base
from rave_cli.pool.agents import agent as work
from rave_cli.pool.agents import lending, sandbox
from rave_cli.pool.agents.agent import Agent
from rave_cli.pool.agents.carrying import SharedFiles
from rave_cli.pool.agents.lending import SecretLending
from rave_cli.pool.agents.room import Room, need_mib
from rave_cli.pool.queue import broker
from rave_cli.pool.queue.relay import Relay
from rave_cli.pool.queue.streams import Fault, Queue
from rave_cli.pool.served import alone

if TYPE_CHECKING:
    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.pool.queue.address import RedisAddress
    from rave_cli.settings import Settings

log = logging.getLogger("rave.pool")

# Seconds for which it stays ready to hear a signal.
LOOK = 0.2


def take_jobs(
    wanted: NewMachine,
    settings: Settings,
    *,
    shared: RedisAddress,
    lends: frozenset[str],
    jobs: int,
    wait: float,
    grace: float,
    on_event: OnEvent,
) -> int:
    """Take jobs and see each through; return how many there were.

    A signal lets no more begin. What runs then has some time to come to its end, and waits again
    after that, for another agent.

    Args:
        wanted: what each job's machine is like.
        settings: where images come from.
        shared: the server.
        lends: names of secrets that jobs may read here.
        jobs: how many to take.
        wait: seconds for one to come.
        grace: seconds that what runs has after a signal.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if the base has no templates; HOST if another process serves here, or the
            server does not answer for so long; NOT_READY if there is no memory for so long; SECRETS
            if there is no secret that is to be lent; as making a template does.
    """
    require_base(wanted.plan.profile, wanted.plan.base)
    lent = lending.require(lends)
    with alone():
        for name in sandbox.sweep():
            on_event(Event("note", "work", f"{name} deleted: its agent was killed"))
        templates.get(wanted, settings, on_event=on_event)
        with broker.shared(shared) as client:
            queue = Queue(client, lends=lent)
            with suppress(Fault):
                queue.offer()
            room = Room(need_mib(wanted))
            box = sandbox.MachineSandbox(
                wanted,
                settings,
                on_event=lambda _event: None,
                lends=SecretLending(names=lent),
                spares=sandbox.spares(wanted, settings),
                room=room,
                files=SharedFiles(Relay(client), ""),
            )
            who = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}-1"
            on_event(Event("note", "work", f"{who} takes jobs of {shared.shown}"))
            worker = _Worker(queue, box, room, who, jobs=jobs, wait=wait)
            return worker.run(grace)


class _Worker:
    """An agent in a thread of its own, so that a signal does not end it half-way."""

    def __init__(
        self,
        queue: Queue,
        box: sandbox.MachineSandbox,
        room: Room,
        who: str,
        *,
        jobs: int,
        wait: float,
    ) -> None:
        self._room, self._box = room, box
        self._jobs, self._wait = jobs, wait
        self._stopping, self._draining = threading.Event(), threading.Event()
        self._agent = Agent(who, queue, box, self._stopping)
        self._took, self._over = 0, False
        self._fault: BaseException | None = None

    def run(self, grace: float) -> int:
        thread = threading.Thread(target=self._work, name="agent 1")
        with signals.held() as hold:
            thread.start()
            try:
                # Not `join`: broken off by a signal, it takes a thread that runs for one that has
                # ended (https://github.com/python/cpython/issues/89437).
                with hold.released():
                    while not self._over:
                        time.sleep(LOOK)
            except signals.Interrupted:
                self._draining.set()
                thread.join(grace)
                if not self._over:
                    # Its job waits again.
                    raise
            finally:
                self._stopping.set()
                thread.join()
        if self._fault is not None:
            raise self._fault
        return self._took

    def _work(self) -> None:
        try:
            until = time.monotonic() + self._wait
            while self._took < self._jobs and not self._draining.is_set():
                if self._turn(last=time.monotonic() > until):
                    self._took += 1
                    until = time.monotonic() + self._wait
                elif time.monotonic() > until:
                    return
        except BaseException as fault:  # noqa: BLE001 - raised where it is waited for
            self._fault = fault
        finally:
            self._agent.leave()
            self._over = True

    def _turn(self, *, last: bool) -> bool:
        """Take a job, if there is one; whatever keeps us from it is a fault only at last."""
        try:
            with self._room.kept() as lacks:
                _require(lacks)
                self._box.prepare()
                return self._agent.turn(work.NOTICES)
        except RaveError:
            if last:
                raise
        except Fault as error:
            if last:
                raise RaveError(
                    f"the Redis server does not answer: {error}",
                    hint="redis-cli -h HOST ping",
                    exit_code=ExitCode.HOST,
                ) from error
        self._draining.wait(work.NOTICES)
        return False


def _require(lacks: str) -> None:
    if lacks:
        raise RaveError(lacks, hint="free -m", exit_code=ExitCode.NOT_READY)
