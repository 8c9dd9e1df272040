"""What agents say in NATS JetStream: how tasks stand, and that they are there."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig
from pydantic import ValidationError

from rave_platform.adapters import taskstreams
from rave_platform.adapters.taskstreams import AGENTS, TASKS, away, told
from rave_platform.application.chat.ports import QueueFigures, ToldTask
from rave_platform.domain.tasks import AgentHeartbeat
from rave_platform.domain.tracing import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.js.client import JetStreamContext

    from rave_platform.adapters.stream import NatsStream

TOLD = "rave.tasks.v1.told.>"
# The consumer, which the server keeps while we are away.
READER = "chat-bridge"
# What is taken at a time, and the seconds to wait for it.
MOST_AT_ONCE = 32
WAITING = 5.0
# Seconds until it is looked again whether there is a connection.
AGAIN = 0.5
# Seconds after its last sign of life that an agent counts as there.
LATELY = 60.0


class NatsTaskReader:
    """A TaskReader; who publishes tasks sees to the connection."""

    def __init__(self, stream: NatsStream, wall: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._wall = wall
        self._reading: JetStreamContext.PullSubscription | None = None
        self._connection = 0

    async def told(self) -> list[ToldTask]:
        """Wait a moment for what agents say of tasks; return what came.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """
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
        return [
            ToldTask(
                message.data, partial(told, message.ack), (message.headers or {}).get(HEADER, "")
            )
            for message in found
        ]

    async def _reader(self) -> JetStreamContext.PullSubscription:
        jetstream = self._stream.jetstream()
        if self._reading is None or self._connection != self._stream.connection:
            await taskstreams.see_to_agents(jetstream)
            self._connection = self._stream.connection
            config = ConsumerConfig(
                durable_name=READER, filter_subject=TOLD, ack_policy=AckPolicy.EXPLICIT
            )
            # One that is there, and reads something else, is changed by it.
            await jetstream.add_consumer(TASKS.name, config)
            self._reading = await jetstream.pull_subscribe_bind(READER, TASKS.name)
        return self._reading

    async def queues(self) -> list[QueueFigures]:
        """Return how far the readers of the stream are.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """
        try:
            found = await self._stream.jetstream().consumers_info(TASKS.name)
        except (NatsError, OSError, TimeoutError) as fault:
            raise away(fault) from fault
        return [
            QueueFigures(
                one.name, one.num_pending or 0, one.num_ack_pending or 0,
                one.num_redelivered or 0,
            )
            for one in found
        ]  # fmt: skip

    async def agents(self) -> list[AgentHeartbeat]:
        """Return the agents that gave a sign of life lately.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """
        jetstream = self._stream.jetstream()
        try:
            found = await jetstream.stream_info(AGENTS.name, subjects_filter=">")
            # Side by side: somebody waits for the answer to their command.
            last = await asyncio.gather(
                *(
                    jetstream.get_last_msg(AGENTS.name, subject)
                    for subject in found.state.subjects or {}
                )
            )
        except (NatsError, OSError, TimeoutError) as fault:
            raise away(fault) from fault
        beats = [beat for message in last if (beat := _beat(message.data or b""))]
        since = self._wall() - LATELY
        return [beat for beat in beats if beat.at.timestamp() >= since]


def _beat(data: bytes) -> AgentHeartbeat | None:
    try:
        return AgentHeartbeat.model_validate_json(data)
    except ValidationError:
        return None
