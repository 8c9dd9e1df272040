"""What is pulled from a real nats-server, whatever becomes of the consumer."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rave_platform.adapters.pulling import DurableConsumer
from rave_platform.adapters.stream import NatsStream, StreamSettings
from rave_platform.adapters.taskstreams import TASKS
from tests.integration.platform.services import free_port, nats_server
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

# Seconds.
WAITS = 0.5


@contextmanager
def streams(place: Path) -> Iterator[Callable[[], NatsStream]]:
    """Start a server; return what makes a connection to it."""
    port = free_port()
    server = nats_server(place, port)
    server.start()
    try:
        settings = StreamSettings(f"nats://127.0.0.1:{port}", "rave", "hunter2")
        yield lambda: NatsStream(settings, TASKS)
    finally:
        server.end()


def read(
    place: Path, do: Callable[[NatsStream, DurableConsumer], Coroutine[Any, Any, None]]
) -> None:
    async def work() -> None:
        with streams(place) as connection:
            stream = connection()
            await stream.connect()
            consumer = DurableConsumer(stream, TASKS, "one", "rave.tasks.>", waits=WAITS)
            async with asyncio.timeout(CEILING):
                await do(stream, consumer)
            await stream.close()

    asyncio.run(work())


def test_a_consumer_that_has_gone_is_made_again(tmp_path: Path) -> None:
    async def do(stream: NatsStream, consumer: DurableConsumer) -> None:
        assert await consumer.pull() == []
        await stream.jetstream().delete_consumer(TASKS.name, "one")
        await stream.jetstream().publish("rave.tasks.x", b"said")
        while not (found := await consumer.pull()):
            pass
        assert found[0].data == b"said"

    read(tmp_path, do)


def test_what_waits_comes_together_and_in_order(tmp_path: Path) -> None:
    async def do(stream: NatsStream, consumer: DurableConsumer) -> None:
        for number in range(5):
            await stream.jetstream().publish("rave.tasks.x", str(number).encode())
        for expected in ([b"0", b"1", b"2", b"3"], [b"4"], []):
            found = await consumer.pull(4)
            assert [message.data for message in found] == expected
            for message in found:
                await message.ack_sync()

    read(tmp_path, do)
