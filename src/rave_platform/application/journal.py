"""Many who want to store something, one who writes: what waits together is one transaction.

A transaction costs a sync of the disk, however many events are in it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from rave_platform.application.ports import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_platform.application.ports import Blocking, EventStore, StoredEvent
    from rave_platform.domain.normalisation import WebhookDelivery

# Deliveries in one transaction, and that may wait for one: each holds its body in memory.
MOST_AT_ONCE = 64
MOST_WAITING = 256


class Journal:
    """Stores deliveries; `run` must run meanwhile. `stored` is called after each transaction."""

    def __init__(
        self,
        store: EventStore,
        blocking: Blocking[Sequence[StoredEvent]],
        stored: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._blocking = blocking
        self._stored = stored
        self._wall = wall
        self._waiting: list[tuple[WebhookDelivery, asyncio.Future[StoredEvent]]] = []
        self._wake = asyncio.Event()

    async def append(self, delivery: WebhookDelivery) -> StoredEvent:
        """Store a delivery; return once it is on the disk.

        Raises:
            StoreUnavailableError: if it is not.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise StoreUnavailableError("too many wait to be stored")
        future: asyncio.Future[StoredEvent] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, future))
        self._wake.set()
        return await future

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        while True:
            await self._wake.wait()
            batch = self._waiting[:MOST_AT_ONCE]
            del self._waiting[:MOST_AT_ONCE]
            if not self._waiting:
                self._wake.clear()
            await self._write(batch)

    async def _write(
        self, batch: list[tuple[WebhookDelivery, asyncio.Future[StoredEvent]]]
    ) -> None:
        deliveries, now = [delivery for delivery, _ in batch], self._wall()
        try:
            found = await self._blocking(lambda: self._store.add(deliveries, now))
        except StoreUnavailableError as fault:
            for _, future in batch:
                if not future.done():
                    future.set_exception(fault)
            return
        for (_, future), stored in zip(batch, found, strict=True):
            if not future.done():
                future.set_result(stored)
        self._stored()
