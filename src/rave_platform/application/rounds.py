"""Work in rounds: one after another while there is some, patiently where it cannot be done."""

from __future__ import annotations

import asyncio
import logging
import time
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
# Seconds until it is said again that something waits.
SAID = 60.0


class Rounds:
    """Carries out rounds while `run` runs; a round returns how much it did.

    `waits` is said in the log when something that a round needs has gone, once a minute for as long
    as it stays away, and that it is over.
    """

    def __init__(
        self,
        round_: Callable[[], Awaitable[int]],
        waits: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._round = round_
        self._waiting = _Waiting(waits, clock)
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
                self._waiting.met(fault)
                await asyncio.sleep(max(pause, fault.retry_after))
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            self._waiting.over()
            pause = FIRST_PAUSE
            if done == 0:
                await self._until_woken()

    async def _until_woken(self) -> None:
        try:
            async with asyncio.timeout(IDLE):
                await self._wake.wait()
        except TimeoutError:
            return


class _Waiting:
    """What is said of a time in which something cannot be done."""

    def __init__(self, waits: str, clock: Callable[[], float]) -> None:
        self._waits, self._clock = waits, clock
        self._since: float | None = None
        self._said = 0.0

    def met(self, fault: UnavailableError) -> None:
        """Say it, if it is new or was said long ago."""
        now = self._clock()
        if self._since is None:
            self._since = now
        elif now < self._said + SAID:
            return
        self._said = now
        LOG.warning(self._waits, extra={"why": str(fault), "seconds": round(now - self._since)})

    def over(self) -> None:
        """Say that it is over, if somebody was told of it."""
        if self._since is not None:
            seconds = round(self._clock() - self._since)
            LOG.info("over: %s", self._waits, extra={"seconds": seconds})
        self._since = None
