"""What is said of a time in which something waits."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from rave_platform.application import rounds
from rave_platform.application.ports import StreamUnavailableError
from rave_platform.application.rounds import SAID, Rounds

if TYPE_CHECKING:
    import pytest


def test_what_waits_is_said_once_a_minute_and_that_it_is_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = 0.0, 0
    monkeypatch.setattr(rounds, "LONGEST_PAUSE", 0.0)
    caplog.set_level(logging.INFO)

    async def ask() -> int:
        nonlocal now, asked
        asked += 1
        now += SAID / 4
        if asked in {2, 3, 4, 5, 6, 7, 9}:
            raise StreamUnavailableError("away")
        if asked > 10:
            raise asyncio.CancelledError
        return 1

    async def work() -> None:
        await asyncio.gather(
            Rounds(ask, "events wait", clock=lambda: now).run(), return_exceptions=True
        )

    asyncio.run(work())
    said = [(one.levelname, one.getMessage(), one.__dict__["seconds"]) for one in caplog.records]
    assert said == [
        ("WARNING", "events wait", 0),
        ("WARNING", "events wait", 60),
        ("INFO", "over: events wait", 90),
        ("WARNING", "events wait", 0),
        ("INFO", "over: events wait", 15),
    ]
