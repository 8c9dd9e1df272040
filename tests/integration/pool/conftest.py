"""A real redis-server for each test, and the two sides of the queue on it."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.pool.jobs.job import ENDINGS
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.proof import verify
from rave_cli.pool.queue.broker import Broker
from rave_cli.pool.queue.streams import Queue
from rave_cli.transcript import signing_key
from rave_cli.transcript.trust import TrustedKey
from tests.waiting import NEVER

from .pools import LEASE, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def _broker() -> Iterator[Broker]:
    # Not below tmp_path: a socket's path is short.
    place = Path(tempfile.mkdtemp(prefix="rave-pool-"))
    broker = Broker(place / "redis", place / "s")
    try:
        broker.tend()
        yield broker
    finally:
        broker.end()
        shutil.rmtree(place)


@pytest.fixture
def broker(_broker: Broker) -> Broker:
    """A server that has nothing."""
    _broker.tend()
    _broker.client.flushall()
    return _broker


@pytest.fixture
def pool(home: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool without agents, on an empty queue; what ended in it must be proven."""
    monkeypatch.setattr("rave_cli.pool.agents.agent.NOTICES", 0.02)
    monkeypatch.setattr("rave_cli.pool.agents.agent.GIVEN_BACK", NEVER)
    with JobStore(home / "pool/jobs.sqlite") as store:
        queue = Queue(broker.client, lease=LEASE)
        pool = Pool(store, broker, queue, threading.Event(), signing_key())
        yield pool
        trusted = (TrustedKey(pool.key.public),)
        for job in store.newest(1000, ENDINGS):
            verify(job, store.printout(job), store.proof(job.name), trusted)
