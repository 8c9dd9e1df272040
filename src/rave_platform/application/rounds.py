"""Work in rounds: one after another while there is some, patiently where it cannot be done."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from rave_platform.application.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOG = logging.getLogger(__name__)

# Seconds between two looks at what somebody else may have put there, and between two attempts at
# what is not there: doubled each time.
IDLE = 1.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class Rounds:
    """Carries out rounds while `run` runs; a round returns how much it did.

    `waits` is said in the log when something that a round needs has gone.
    """

    def __init__(self, round_: Callable[[], Awaitable[int]], waits: str) -> None:
        self._round = round_
        self._waits = waits
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Say that there is something to do."""
        self._wake.set()

    async def run(self) -> None:
        """Go on, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            try:
                done = await self._round()
            except UnavailableError as fault:
                if pause == FIRST_PAUSE:
                    LOG.warning(self._waits, extra={"why": str(fault)})
                await asyncio.sleep(max(pause, fault.retry_after))
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            pause = FIRST_PAUSE
            if done == 0:
                await self._until_woken()

    async def _until_woken(self) -> None:
        try:
            async with asyncio.timeout(IDLE):
                await self._wake.wait()
        except TimeoutError:
            return
