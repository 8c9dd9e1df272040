"""What the forge says of merge requests: events of the dispatcher, in NATS JetStream."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig

from rave_platform.adapters.chat.tasks import AGAIN, READER
from rave_platform.adapters.stream import EVENTS
from rave_platform.adapters.taskstreams import away, told
from rave_platform.application.chat.ports import ToldTask
from rave_platform.domain.events import SCHEMA_VERSION, EventKind

if TYPE_CHECKING:
    from nats.js.client import JetStreamContext

    from rave_platform.adapters.stream import NatsStream

# What is taken at a time: an event is as large as its webhook. And the seconds to wait for it.
MOST_AT_ONCE = 4
WAITING = 15.0


class NatsForgeReader:
    """A ForgeReader; the dispatcher makes the stream, and who publishes tasks connects."""

    def __init__(self, stream: NatsStream, source: str) -> None:
        self._stream = stream
        self._subject = f"rave.events.v{SCHEMA_VERSION}.{source}.{EventKind.MERGE_REQUEST}"
        self._reading: JetStreamContext.PullSubscription | None = None
        self._connection = 0

    async def said(self) -> list[ToldTask]:
        """As ForgeReader."""
        if not self._stream.connection:
            # Whoever publishes says so already.
            await asyncio.sleep(AGAIN)
            return []
        try:
            found = await (await self._reader()).fetch(MOST_AT_ONCE, timeout=WAITING)
        except NatsTimeoutError:
            return []
        except (NatsError, OSError, TimeoutError) as fault:
            # Made anew the next time: the server may have lost it.
            self._reading = None
            raise away(fault) from fault
        return [ToldTask(message.data, partial(told, message.ack)) for message in found]

    async def _reader(self) -> JetStreamContext.PullSubscription:
        jetstream = self._stream.jetstream()
        if self._reading is None or self._connection != self._stream.connection:
            self._connection = self._stream.connection
            config = ConsumerConfig(
                durable_name=READER, filter_subject=self._subject, ack_policy=AckPolicy.EXPLICIT
            )
            # One that is there, and reads something else, is changed by it.
            await jetstream.add_consumer(EVENTS.name, config)
            self._reading = await jetstream.pull_subscribe_bind(READER, EVENTS.name)
        return self._reading
