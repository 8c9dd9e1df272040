"""Hands what jobs of this host are given to agents of others, and takes in what they leave."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import artifacts, inputs, parcels
from rave_cli.pool.jobs.database import folder
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.queue.relay import LOOK, PIECE
from rave_cli.pool.queue.streams import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import JobStore
    from rave_cli.pool.queue.relay import Errand, Relay

log = logging.getLogger("rave.pool")

# Files on their way at a time.
COURIERS = 4

# Seconds before a server that does not answer is asked again.
AGAIN = 0.5


@contextmanager
def couriers(relay: Relay, origin: str) -> Iterator[None]:
    """Let couriers of a store work meanwhile."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            try:
                turn(relay, origin)
            except Fault:
                stopping.wait(AGAIN)
            except Exception:
                # One file that does not arrive is not the last.
                log.exception("a courier has a fault")
                stopping.wait(AGAIN)

    threads = [threading.Thread(target=work, name=f"courier {n + 1}") for n in range(COURIERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def turn(relay: Relay, origin: str, wait: float = LOOK) -> bool:
    """See to one errand, if somebody has one; return whether somebody had.

    Raises:
        Fault: the server does not answer.
    """
    errand = relay.asked(origin, wait=wait)
    if errand is None:
        return False
    try:
        with open_store() as store:
            job = _running(store, errand)
        if errand.what == "input":
            _hand_out(relay, errand, job)
        else:
            _take_in(relay, errand, job)
    except RaveError as error:
        log.debug("%s of %s: %s", errand.what, errand.job, error.message)
        relay.refuse(errand.ticket, error.message)
    return True


def _running(store: JobStore, errand: Errand) -> Job:
    """Return the job of an errand. What it began may not have been told yet."""
    job = store.load(errand.job)
    if job.over or job.name != errand.job or errand.attempt < max(1, job.attempt):
        raise RaveError(
            f"job {errand.job} does not run as attempt {errand.attempt}",
            exit_code=ExitCode.NOT_READY,
        )
    return job


def _hand_out(relay: Relay, errand: Errand, job: Job) -> None:
    if job.work.given is None:
        raise RaveError(f"job {job.name} is given nothing", exit_code=ExitCode.USAGE)
    fd = inputs.open_kept(job.work.given)
    with os.fdopen(fd, "rb") as stream:
        relay.send(errand.ticket, parcels.pieces(stream, PIECE))


def _take_in(relay: Relay, errand: Errand, job: Job) -> None:
    place = artifacts.place_of(job.name, errand.attempt)
    most = job.work.most_artifacts + parcels.OVERHEAD
    began = time.monotonic()
    with parcels.Arriving(folder() / "artifacts", most) as arriving:
        relay.receive(errand.ticket, arriving.write)
        left = parcels.unpack(arriving.opened(), place, job.work)
    log.debug("artifacts of %s came in %.1f s", job.name, time.monotonic() - began)
    relay.receipt(errand.ticket, parcels.listing(left))
