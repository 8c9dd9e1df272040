"""Serves the pool until a signal ends it: a dispatcher, agents, and the server between them."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import RaveError
from rave_cli.flows import machine as machines
from rave_cli.flows.events import Event
from rave_cli.machines import preflight
from rave_cli.machines.templates.key import require_base
from rave_cli.pool import artifacts, broker, inputs, sandbox
from rave_cli.pool.crew import Crew
from rave_cli.pool.dispatcher import AGAIN, Dispatcher
from rave_cli.pool.jobstore import folder, open_store
from rave_cli.pool.metrics import EVERY, PoolMetrics
from rave_cli.pool.queue import Queue
from rave_cli.pool.served import FREE, SERVING, ServingRecord, place
from rave_cli.transcript import signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import redis

    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.pool.jobs import Job
    from rave_cli.pool.jobstore import JobStore
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
    figures: Path | None,
    on_event: OnEvent,
    on_change: Callable[[Job], None],
) -> None:
    """Serve the pool of whoever calls; ends only by a signal or a fault.

    Args:
        wanted: what each job's machine is like.
        settings: where images come from.
        agents: how many jobs may run at a time.
        url: a Redis server that several pools share; None is one of our own.
        figures: a file for Prometheus, written again and again.
        on_event: told what happens besides.
        on_change: told each job that is changed.

    Raises:
        RaveError: USAGE if the base has no templates; HOST if another process serves it, or the
            host lacks something; SECRETS if the signing key must not be used; as making a template
            does.
    """
    require_base(wanted.plan.profile, wanted.plan.base)
    with _alone(), open_store() as store:
        store.prune(time.time())
        inputs.prune(store.given(), time.time())
        artifacts.prune(store.keeping())
        # Before anything is run of which there must be proof.
        key = signing_key()
        if key.created:
            on_event(Event("note", "serve", f"signing key {key.path} made; keep {key.public_file}"))
        for name in sandbox.sweep():
            on_event(Event("note", "serve", f"{name} deleted: its agent was killed"))
        # Now, for jobs not to wait for it.
        machines.template(wanted, settings, on_event=on_event)
        with _server(url) as (client, tend):
            queue = Queue(client)
            metrics = PoolMetrics()

            def changed(job: Job) -> None:
                metrics.saw(job)
                on_change(job)

            dispatcher = Dispatcher(store, queue, key, changed)
            if url is None:
                # Nobody lives who could have a job.
                queue.abandon()
            need = sandbox.need_mib(wanted)
            # A shared server has jobs of others, too.
            box = sandbox.MachineSandbox(
                wanted, settings, on_event=lambda _event: None, lends=url is None
            )
            who = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
            crew = Crew(queue, box, sandbox.Room(need), who)
            told = _Figures(metrics, figures)
            serving = _Serving(dispatcher, store, crew, _record(wanted, need, agents), told)
            on_event(Event("note", "serve", _told(agents, need)))
            try:
                with _working(crew):
                    while True:
                        if not serving.turn() and not tend():
                            time.sleep(AGAIN)
            finally:
                # What the agents said last.
                dispatcher.turn()
                place().unlink(missing_ok=True)


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
def _working(crew: Crew) -> Iterator[None]:
    """Let agents work meanwhile. On leaving, each gives up the job that it has."""
    with signals.held() as hold:
        try:
            with hold.released():
                yield
        finally:
            crew.end()


class _Serving:
    """Turns the dispatcher, keeps the crew to what is wanted, and says how things stand."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        store: JobStore,
        crew: Crew,
        record: ServingRecord,
        figures: _Figures,
    ) -> None:
        self._dispatcher, self._store, self._crew = dispatcher, store, crew
        self._figures = figures
        self._record = record
        self._written: ServingRecord | None = None

    def turn(self) -> bool:
        """Do once what there is to do; return whether the queue answers."""
        wanted = self._store.scale
        agents = self._record.most if wanted.agents is None else wanted.agents
        agents = 0 if wanted.draining else agents
        self._crew.scale(agents)
        record = replace(
            self._record,
            agents=agents,
            working=self._crew.working,
            draining=wanted.draining,
            hold=self._crew.hold,
        )
        if record != self._written:
            SERVING.write(place(), record, mode=0o600)
            self._written = record
        self._figures.write(self._store, record)
        return self._dispatcher.turn()


class _Figures:
    """Writes figures into a file, if there is to be one, as often as they are worth it."""

    def __init__(self, metrics: PoolMetrics, file: Path | None) -> None:
        self._metrics, self._file = metrics, file
        self._due = 0.0

    def write(self, store: JobStore, record: ServingRecord) -> None:
        """Write them, if it is time. That they cannot be written keeps no job from running."""
        now = time.monotonic()
        if self._file is not None and now >= self._due:
            self._due = now + EVERY
            text = self._metrics.text(store, record)
            try:
                paths.atomic_write(self._file, text.encode())
            except RaveError as error:
                log.warning("no figures: %s", error.message)


def _record(wanted: NewMachine, need: int, agents: int) -> ServingRecord:
    return ServingRecord(
        pid=os.getpid(),
        since=time.time(),
        profile=wanted.plan.profile,
        base=wanted.plan.base,
        mode=wanted.mode,
        need_mib=need,
        most=agents,
        agents=agents,
        working=0,
        draining=False,
        hold=FREE,
    )


def _told(agents: int, need: int) -> str:
    available = preflight.available_mib()
    fit = agents if available is None else min(agents, available // need)
    said = f"serving the pool: {agents} jobs at a time"
    if fit < agents:
        said += f", as memory allows ({need} MiB each, {available} MiB available)"
    return f"{said}; Ctrl-C ends it, and jobs that run then wait again"
