"""A reader of a stream in NATS JetStream that the server knows again when we have been away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig

from rave_platform.adapters.taskstreams import away

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

    from rave_platform.adapters.stream import NatsStream, StreamName

# The consumer, which the server keeps while we are away.
READER = "chat-bridge"
# Seconds until it is looked again whether there is a connection.
AGAIN = 0.5


class DurableReader:
    """It reads one subject of a stream; who publishes sees to the connection.

    `most` messages are taken at a time, and waited for no longer than `waits` seconds; `prepare` is
    called on each new connection first.
    """

    def __init__(
        self,
        stream: NatsStream,
        of: StreamName,
        subject: str,
        *,
        most: int,
        waits: float,
        prepare: Callable[[JetStreamContext], Awaitable[None]] | None = None,
    ) -> None:
        self._stream = stream
        self._of, self._subject = of.name, subject
        self._most, self._waits, self._prepare = most, waits, prepare
        self._reading: JetStreamContext.PullSubscription | None = None
        self._connection = 0

    async def messages(self) -> list[Msg]:
        """Wait a moment for messages; return what came.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """
        if not self._stream.connection:
            # Whoever publishes says so already.
            await asyncio.sleep(AGAIN)
            return []
        try:
            return await (await self._reader()).fetch(self._most, timeout=self._waits)
        except NatsTimeoutError:
            return []
        except (NatsError, OSError, TimeoutError) as fault:
            # Made anew the next time: the server may have lost it.
            self._reading = None
            raise away(fault) from fault

    async def _reader(self) -> JetStreamContext.PullSubscription:
        if self._reading is None or self._connection != self._stream.connection:
            jetstream = self._stream.jetstream()
            if self._prepare is not None:
                await self._prepare(jetstream)
            self._connection = self._stream.connection
            config = ConsumerConfig(
                durable_name=READER, filter_subject=self._subject, ack_policy=AckPolicy.EXPLICIT
            )
            # One that is there, and reads something else, is changed by it.
            await jetstream.add_consumer(self._of, config)
            self._reading = await jetstream.pull_subscribe_bind(READER, self._of)
        return self._reading
