"""Removes events that are older than the mode keeps them, once an hour."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from rave_platform.application.ports import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.application.ports import AgingStore, Blocking

LOG = logging.getLogger(__name__)

EVERY = 3600.0  # seconds


async def prune_forever(
    store: AgingStore, blocking: Blocking[int], wall: Callable[[], float] = time.time
) -> None:
    """Prune now and every hour, until cancelled."""
    while True:
        try:
            # In pieces, so that who wants to store something need not wait for long.
            gone = 0
            while some := await blocking(lambda: store.prune(wall())):
                gone += some
            if gone:
                LOG.info("what is old was removed", extra={"count": gone})
        except StoreUnavailableError as fault:
            LOG.warning("what is old was not removed", extra={"why": str(fault)})
        await asyncio.sleep(EVERY)
