"""What agents say, where a server is gone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from nats.errors import ConnectionClosedError

from rave_platform.adapters.chat.tasks import NatsTaskReader
from rave_platform.application.ports import StreamUnavailableError


class Gone:
    """A message of a server that is gone by the time it is to hear that it was taken in."""

    data, headers = b"{}", None

    async def ack(self) -> None:
        raise ConnectionClosedError


def test_a_server_that_is_gone_before_it_hears_that_something_was_taken_is_away() -> None:
    class Reading:
        async def fetch(self, _most: int, timeout: float) -> list[Gone]:
            assert timeout
            return [Gone()]

    async def work() -> None:
        reader = NatsTaskReader(SimpleNamespace(connection=1, jetstream=lambda: None))  # type: ignore[arg-type]
        reader._reader._reading, reader._reader._connection = Reading(), 1  # type: ignore[assignment]
        (found,) = await reader.told()
        with pytest.raises(StreamUnavailableError, match="ConnectionClosedError"):
            await found.taken()

    asyncio.run(work())
