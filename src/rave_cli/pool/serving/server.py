"""Serves the pool until a signal ends it: a dispatcher, agents, and the server between them."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import RaveError
from rave_cli.flows import templates
from rave_cli.flows.events import Event
from rave_cli.machines import preflight
from rave_cli.machines.templates.key import require_base
from rave_cli.pool.agents import lending, sandbox
from rave_cli.pool.agents.carrying import HostFiles, SharedFiles
from rave_cli.pool.agents.crew import Crew
from rave_cli.pool.agents.lending import SecretLending
from rave_cli.pool.agents.room import Room, need_mib
from rave_cli.pool.files import artifacts, caches, inputs
from rave_cli.pool.jobs import bell
from rave_cli.pool.jobs.database import folder, jobs_file
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.queue import broker
from rave_cli.pool.queue.relay import Relay
from rave_cli.pool.queue.streams import Fault, Queue
from rave_cli.pool.served import FREE, SERVING, HoldUp, ServingRecord, alone, place
from rave_cli.pool.serving.courier import couriers
from rave_cli.pool.serving.dispatcher import AGAIN, Dispatcher
from rave_cli.pool.serving.metrics import EVERY
from rave_cli.transcript import signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import redis

    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.machines.templates.warm import PutBy
    from rave_cli.pool.agents.spares import Spares
    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import JobStore
    from rave_cli.pool.queue.address import RedisAddress
    from rave_cli.pool.serving.metrics import PoolMetrics
    from rave_cli.settings import Settings

log = logging.getLogger("rave.pool")

SILENT = HoldUp("queue", "the Redis server does not answer, or has no memory for more")


def serve(
    wanted: NewMachine,
    settings: Settings,
    *,
    agents: int,
    idle: float,
    most_cache: int,
    allows: frozenset[str],
    lends: frozenset[str],
    shared: RedisAddress | None,
    metrics: PoolMetrics,
    figures: Path | None,
    beside: AbstractContextManager[tuple[str, ...]],
    on_event: OnEvent,
    on_change: Callable[[Job], None],
) -> None:
    """Serve the pool of whoever calls; ends only by a signal or a fault.

    Args:
        wanted: what each job's machine is like.
        settings: where images come from.
        agents: how many jobs may run at a time; with 0 others run what is submitted here.
        idle: seconds without a job after which no machine stands by until the next.
        most_cache: bytes that caches may take.
        allows: what jobs may reach that ask for it, each as HOST:PORT.
        lends: names of secrets that jobs of other hosts may read here.
        shared: a Redis server that several pools share; None is one of our own.
        metrics: the figures of this process.
        figures: a file for Prometheus, written again and again.
        beside: what answers others meanwhile, entered once nobody else serves; yields where.
        on_event: told what happens besides.
        on_change: told each job that is changed.

    Raises:
        RaveError: USAGE if the base has no templates, or RAVE_OTLP_ENDPOINT names no collector;
            HOST if another process serves it, or the host lacks something; SECRETS if the signing
            key must not be used, or there is no secret that is to be lent; as making a template
            does.
    """
    require_base(wanted.plan.profile, wanted.plan.base)
    exports = _exports(settings, metrics, wanted.plan.profile)
    lent = None if shared is None else lending.require(lends)
    with alone(), open_store() as store, beside as endpoints:
        for endpoint in endpoints:
            on_event(Event("note", "serve", f"answering at {endpoint}"))
        store.prune(time.time())
        inputs.prune(store.given(), time.time())
        artifacts.prune(store.keeping())
        caches.sweep()
        caches.prune(most_cache)
        # Before anything is run of which there must be proof.
        key = signing_key()
        if key.created:
            on_event(Event("note", "serve", f"signing key {key.path} made; keep {key.public_file}"))
        for name in sandbox.sweep():
            on_event(Event("note", "serve", f"{name} deleted: its agent was killed"))
        if agents:
            # Now, for jobs not to wait for it.
            templates.get(wanted, settings, on_event=on_event)
        with _server(shared) as (client, tend):
            queue = Queue(client, lends=lent, origin=store.origin)
            relay = None if shared is None else Relay(client)

            def changed(job: Job) -> None:
                metrics.saw(job)
                on_change(job)

            dispatcher = Dispatcher(store, queue, key, changed, exports=exports is not None)
            if shared is None:
                # Nobody lives who could have a job.
                queue.abandon(store.origin)
            need = need_mib(wanted)
            room = Room(need)
            spares = sandbox.spares(wanted, settings, idle=idle)
            box = sandbox.MachineSandbox(
                wanted,
                settings,
                on_event=lambda _event: None,
                lends=SecretLending(store.origin, lent),
                spares=spares,
                room=room,
                most_cache=most_cache,
                allows=allows,
                files=HostFiles() if relay is None else SharedFiles(relay, store.origin),
            )
            if lent is not None and agents:
                # One that does not answer now will have them looked at in its time.
                with suppress(Fault):
                    queue.offer()
            who = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
            crew = Crew(queue, box, room, who)
            record = _record(wanted, need, agents, shared=shared is not None)
            told = _Figures(metrics, figures)
            serving = _Serving(dispatcher, store, crew, spares, record=record, figures=told)
            on_event(Event("note", "serve", _told(agents, need)))
            try:
                with (
                    _roused(queue, store.origin),
                    _carrying(relay, store.origin),
                    _working(crew, spares),
                    exports or nullcontext(),
                ):
                    while True:
                        if not serving.turn() and not tend():
                            time.sleep(AGAIN)
            finally:
                # What the agents said last.
                dispatcher.turn()
                place().unlink(missing_ok=True)


def _carrying(relay: Relay | None, origin: str) -> AbstractContextManager[None]:
    return nullcontext() if relay is None else couriers(relay, origin)


def _exports(
    settings: Settings, metrics: PoolMetrics, pipeline: str
) -> AbstractContextManager[None] | None:
    """Return what exports traces meanwhile; None if the operator names no collector."""
    endpoint = settings.text("RAVE_OTLP_ENDPOINT")
    if not endpoint:
        return None
    # What it takes to talk to one is not loaded for a pool that has none.
    from rave_cli.pool.serving import exporting, otlp

    to = otlp.collector(endpoint)
    return exporting.TraceExporter(to, jobs_file(), metrics, pipeline).working()


@contextmanager
def _server(shared: RedisAddress | None) -> Iterator[tuple[redis.Redis, Callable[[], bool]]]:
    """Connect to the server; yields the client, and what starts the server again if it ended."""
    if shared is not None:
        with broker.shared(shared) as client:
            yield client, lambda: False
    else:
        with broker.own(folder() / "redis") as own:
            yield own.client, own.tend


@contextmanager
def _working(crew: Crew, spares: Spares[PutBy]) -> Iterator[None]:
    """Let agents work meanwhile. On leaving, each gives up the job that it has, and no machine
    stands by.
    """
    with signals.held() as hold:
        try:
            with hold.released():
                yield
        finally:
            crew.end()
            spares.end()


@contextmanager
def _roused(queue: Queue, origin: str) -> Iterator[None]:
    """Look at once whenever somebody has changed what there is to do."""

    def rouse() -> None:
        # One that does not answer now is asked again soon.
        with suppress(Fault):
            queue.rouse(origin)

    with bell.hung(rouse):
        yield


class _Serving:
    """Turns the dispatcher, keeps the crew to what is wanted, and says how things stand."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        store: JobStore,
        crew: Crew,
        spares: Spares[PutBy],
        *,
        record: ServingRecord,
        figures: _Figures,
    ) -> None:
        self._dispatcher, self._store, self._crew = dispatcher, store, crew
        self._spares = spares
        self._figures = figures
        self._record = record
        self._written: ServingRecord | None = None
        self._answers = True

    def turn(self) -> bool:
        """Do once what there is to do; return whether the queue answers."""
        wanted = self._store.scale
        agents = self._record.most if wanted.agents is None else wanted.agents
        agents = 0 if wanted.draining else agents
        self._crew.scale(agents)
        self._spares.scale(wanted.standby if agents else 0)
        record = replace(
            self._record,
            agents=agents,
            working=self._crew.working,
            draining=wanted.draining,
            hold=self._crew.hold if self._answers else SILENT,
        )
        if record != self._written:
            SERVING.write(place(), record, mode=0o600)
            self._written = record
        self._figures.write(self._store, record)
        self._answers = self._dispatcher.turn()
        return self._answers


class _Figures:
    """Writes figures into a file, if there is to be one, as often as they are worth it."""

    def __init__(self, metrics: PoolMetrics, file: Path | None) -> None:
        self._metrics, self._file = metrics, file
        self._due = 0.0

    def write(self, store: JobStore, record: ServingRecord) -> None:
        """Write them, if it is time. That they cannot be written keeps no job from running."""
        self._metrics.stands(record)
        now = time.monotonic()
        if self._file is not None and now >= self._due:
            self._due = now + EVERY
            text = self._metrics.text(store)
            try:
                paths.atomic_write(self._file, text.encode())
            except RaveError as error:
                log.warning("no figures: %s", error.message)


def _record(wanted: NewMachine, need: int, agents: int, *, shared: bool) -> ServingRecord:
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
        shared=shared,
    )


def _told(agents: int, need: int) -> str:
    available = preflight.available_mib()
    fit = agents if available is None else min(agents, available // need)
    if not agents:
        return "serving the pool: agents of other hosts run its jobs; Ctrl-C ends it"
    said = f"serving the pool: {agents} jobs at a time"
    if fit < agents:
        said += f", as memory allows ({need} MiB each, {available} MiB available)"
    return f"{said}; Ctrl-C ends it, and jobs that run then wait again"
