"""What the forge says of merge requests: events of the dispatcher, in NATS JetStream."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rave_platform.adapters.chat.reading import durable
from rave_platform.adapters.stream import EVENTS
from rave_platform.adapters.taskstreams import told
from rave_platform.application.chat.ports import ToldTask
from rave_platform.domain.events import SCHEMA_VERSION, EventKind

if TYPE_CHECKING:
    from rave_platform.adapters.stream import NatsStream

# What is taken at a time: an event is as large as its webhook. And the seconds to wait for it.
MOST_AT_ONCE = 4
WAITING = 15.0


class NatsForgeReader:
    """A ForgeReader; the dispatcher makes the stream, and who publishes tasks connects."""

    def __init__(self, stream: NatsStream, source: str) -> None:
        subject = f"rave.events.v{SCHEMA_VERSION}.{source}.{EventKind.MERGE_REQUEST}"
        self._reader = durable(stream, EVENTS, subject=subject, waits=WAITING)

    async def said(self) -> list[ToldTask]:
        """As ForgeReader."""
        found = await self._reader.pull(MOST_AT_ONCE)
        return [ToldTask(message.data, partial(told, message.ack)) for message in found]
