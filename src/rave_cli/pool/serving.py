"""Serves the pool until a signal ends it: a dispatcher, agents, and the server between them."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import RaveError
from rave_cli.flows import machine as machines
from rave_cli.flows.events import Event
from rave_cli.machines import preflight
from rave_cli.machines.templates.key import require_base
from rave_cli.pool import broker, sandbox
from rave_cli.pool.agents import NOTICES, Agent
from rave_cli.pool.dispatcher import AGAIN, Dispatcher
from rave_cli.pool.jobstore import folder, open_store
from rave_cli.pool.queue import Fault, Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import redis

    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.pool.agents import Sandbox
    from rave_cli.pool.jobs import Job
    from rave_cli.settings import Settings

log = logging.getLogger("rave.pool")

LOCK = "serving.lock"

# Seconds after which whoever has the lock serves, and does not only ask.
ASKED = 0.5


def serve(
    wanted: NewMachine,
    settings: Settings,
    *,
    agents: int,
    url: str | None,
    on_event: OnEvent,
    on_change: Callable[[Job], None],
) -> None:
    """Serve the pool of whoever calls; ends only by a signal or a fault.

    Args:
        wanted: what each job's machine is like.
        settings: where images come from.
        agents: how many jobs may run at a time.
        url: a Redis server that several pools share; None is one of our own.
        on_event: told what happens besides.
        on_change: told each job that is changed.

    Raises:
        RaveError: USAGE if the base has no templates; HOST if another process serves it, or the
            host lacks something; as making a template does.
    """
    require_base(wanted.plan.profile, wanted.plan.base)
    with _alone(), open_store() as store:
        store.prune(time.time())
        for name in sandbox.sweep():
            on_event(Event("note", "serve", f"{name} deleted: its agent was killed"))
        # Now, for jobs not to wait for it.
        machines.template(wanted, settings, on_event=on_event)
        with _server(url) as (client, tend):
            queue = Queue(client)
            dispatcher = Dispatcher(store, queue, on_change)
            if url is None:
                # Nobody lives who could have a job.
                queue.abandon()
            need = sandbox.need_mib(wanted)
            room = sandbox.Room(need)
            box = sandbox.MachineSandbox(wanted, settings, on_event=lambda _event: None)
            on_event(Event("note", "serve", _told(agents, need)))
            try:
                with _working(queue, box, room, agents):
                    while True:
                        if not dispatcher.turn() and not tend():
                            time.sleep(AGAIN)
            finally:
                # What the agents said last.
                dispatcher.turn()


def served() -> bool:
    """Return whether somebody serves the pool."""
    try:
        with _lock():
            return False
    except RaveError:
        return True


@contextmanager
def _alone() -> Iterator[None]:
    """Be the only one who serves; whoever only asks holds the lock for a moment."""
    until = time.monotonic() + ASKED
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(_lock())
                break
            except RaveError:
                if time.monotonic() > until:
                    raise
                time.sleep(ASKED / 10)
        yield


def _lock() -> AbstractContextManager[None]:
    busy = "the pool is served already, by another rave command"
    return paths.lock(paths.private_dir(folder()) / LOCK, busy=busy)


@contextmanager
def _server(url: str | None) -> Iterator[tuple[redis.Redis, Callable[[], bool]]]:
    """Connect to the server; yields the client, and what starts the server again if it ended."""
    if url is not None:
        with broker.shared(url) as client:
            yield client, lambda: False
    else:
        with broker.own(folder() / "redis") as own:
            yield own.client, own.tend


@contextmanager
def _working(queue: Queue, box: Sandbox, room: sandbox.Room, agents: int) -> Iterator[None]:
    """Let agents work meanwhile. On leaving, each gives up the job that it has."""
    stopping = threading.Event()
    who = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
    threads = [
        threading.Thread(
            target=_work, args=(Agent(f"{who}-{number}", queue, box, stopping), room, stopping)
        )
        for number in range(1, agents + 1)
    ]
    with signals.held() as hold:
        try:
            for thread in threads:
                thread.start()
            with hold.released():
                yield
        finally:
            stopping.set()
            for thread in threads:
                thread.join()


def _work(agent: Agent, room: sandbox.Room, stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            with room.kept() as there:
                if there:
                    agent.turn()
                else:
                    stopping.wait(NOTICES)
        except Fault:
            stopping.wait(AGAIN)
        except Exception:
            # What went wrong with one job does not keep it from the next.
            log.exception("%s has a fault", agent.name)
            stopping.wait(AGAIN)
    agent.leave()


def _told(agents: int, need: int) -> str:
    available = preflight.available_mib()
    fit = agents if available is None else min(agents, available // need)
    said = f"serving the pool: {agents} jobs at a time"
    if fit < agents:
        said += f", as memory allows ({need} MiB each, {available} MiB available)"
    return f"{said}; Ctrl-C ends it, and jobs that run then wait again"
