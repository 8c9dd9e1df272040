"""What agents say, where a server is gone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import FetchTimeoutError

from rave_platform.adapters.chat.tasks import NatsTaskReader
from rave_platform.application.ports import StreamUnavailableError


class Gone:
    """A message of a server that is gone by the time it is to hear that it was taken in."""

    data, headers = b"{}", None
    metadata = SimpleNamespace(num_pending=0)

    async def ack(self) -> None:
        raise ConnectionClosedError


class Reading:
    """What a consumer is bound to, which answers with one thing."""

    def __init__(self, answer: Exception | list[Gone]) -> None:
        self.answer, self.left = answer, False

    async def fetch(self, _most: int, timeout: float, heartbeat: float) -> list[Gone]:
        assert heartbeat < timeout / 2
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def unsubscribe(self) -> None:
        self.left = True


def reader(reading: Reading) -> NatsTaskReader:
    found = NatsTaskReader(SimpleNamespace(connection=1, jetstream=lambda: None))  # type: ignore[arg-type]
    found._reader._bound, found._reader._connection = reading, 1  # type: ignore[assignment]
    return found


def test_a_server_that_is_gone_before_it_hears_that_something_was_taken_is_away() -> None:
    async def work() -> None:
        (found,) = await reader(Reading([Gone()])).told()
        with pytest.raises(StreamUnavailableError, match="ConnectionClosedError"):
            await found.taken()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("fault", "left"),
    [(FetchTimeoutError(), False), (NatsTimeoutError(), True), (TimeoutError(), True)],
)
def test_nothing_that_comes_in_time_is_no_fault_and_whoever_gave_no_sign_of_life_is_asked_anew(
    fault: Exception, left: bool
) -> None:
    """On a busy host nats-py's time is over before it asks, and it says so as asyncio does."""
    reading = Reading(fault)

    async def work() -> None:
        assert await reader(reading).told() == []

    asyncio.run(work())
    assert reading.left is left


def test_a_server_that_refuses_is_said_to_be_away_and_brings_nothing_there_any_more() -> None:
    reading = Reading(ConnectionClosedError())

    async def work() -> None:
        with pytest.raises(StreamUnavailableError, match="ConnectionClosedError"):
            await reader(reading).told()

    asyncio.run(work())
    assert reading.left
