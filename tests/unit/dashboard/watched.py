"""A dashboard that a test drives by its keys, and its screen as lines of text."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING

from rave_cli.dashboard.app import PoolTop
from rave_cli.pool.jobs.job import Began, Ended, Postponed, Printed
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import Work
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.pilot import Pilot

    from rave_cli.pool.jobs.job import Happening, Job

# When it is, wherever what is shown is compared.
NOW = 1_000_000_000.0


class Watched:
    """A dashboard under way."""

    def __init__(self, top: PoolTop, pilot: Pilot[None]) -> None:
        self.top, self.pilot = top, pilot

    def lines(self) -> list[str]:
        """Return what is on the screen, without what fills it up at its right."""
        strips = self.top.screen._compositor.render_strips()
        return ["".join(part.text for part in strip).rstrip() for strip in strips]

    def shown(self) -> str:
        """Return what is on the screen."""
        return "\n".join(self.lines())

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    async def until(self, words: str) -> str:
        """Return what is on the screen once it has these words."""
        end = time.monotonic() + CEILING
        while words not in (shown := self.shown()):
            assert time.monotonic() < end, f"no {words!r} in\n{shown}"
            await self.pilot.pause(0.02)
        return shown

    async def without(self, words: str) -> str:
        """Return what is on the screen once it has none of these words."""
        end = time.monotonic() + CEILING
        while words in (shown := self.shown()):
            assert time.monotonic() < end, f"still {words!r} in\n{shown}"
            await self.pilot.pause(0.02)
        return shown


def watch(
    scenario: Callable[[Watched], Awaitable[None]],
    *,
    endpoint: str | None = None,
    size: tuple[int, int] = (120, 24),
    clock: Callable[[], float] = time.time,
) -> PoolTop:
    """Let a scenario drive a dashboard; return that as it ended."""
    top = PoolTop(endpoint, clock=clock)

    async def drive() -> None:
        async with top.run_test(size=size, notifications=True) as pilot:
            await scenario(Watched(top, pilot))

    # Textual notes in the context which dashboard there is: the next test has none.
    contextvars.copy_context().run(asyncio.run, drive())
    return top


def submitted(*commands: str) -> list[Job]:
    """Submit commands of a shell; they wait for somebody to run them."""
    with open_store() as store:
        return store.accept([Work(("sh", "-c", command)) for command in commands])


def happens(job: Job, *what: Happening) -> Job:
    """Let that happen to a job; return it as it is then."""
    with open_store() as store:
        store.record([(job.name, one) for one in what])
        return store.load(job.name)


def runs(job: Job, attempt: int = 1) -> Job:
    """Let an agent have a job."""
    return happens(job, Began(NOW - 60, attempt, f"host-{attempt}"))


def prints(job: Job, data: bytes) -> Job:
    """Let the attempt at a job print something."""
    return happens(job, Printed(1, 1, data))


def is_given_up(job: Job, why: str = "its agent was lost") -> Job:
    """Let a job become a dead letter."""
    return happens(job, Ended(NOW - 30, 1, "error", None, why, 0, 4))


def rests(job: Job, until: float) -> Job:
    """Let a job wait for its next attempt."""
    return happens(job, Postponed(NOW, 1, until, "exit status 1", 1, 0))
