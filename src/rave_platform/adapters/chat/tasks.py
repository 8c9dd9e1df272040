"""What agents say in NATS JetStream: how tasks stand, and that they are there."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from pydantic import ValidationError

from rave_platform.adapters.chat.reading import durable
from rave_platform.adapters.taskstreams import AGENTS, TASKS, away, see_to_agents, told
from rave_platform.application.chat.ports import QueueFigures, ToldTask
from rave_platform.domain.tasks import AgentHeartbeat
from rave_platform.domain.tracing import HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.adapters.stream import NatsStream

TOLD = "rave.tasks.v1.told.>"
# What is taken at a time, and the seconds to wait for it.
MOST_AT_ONCE = 32
WAITING = 5.0
# Seconds after its last sign of life that an agent counts as there.
LATELY = 60.0


class NatsTaskReader:
    """A TaskReader; who publishes tasks sees to the connection."""

    def __init__(self, stream: NatsStream, wall: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._wall = wall
        self._reader = durable(stream, TASKS, subject=TOLD, waits=WAITING, prepare=see_to_agents)

    async def told(self) -> list[ToldTask]:
        """Wait a moment for what agents say of tasks; return what came.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """
        return [
            ToldTask(
                message.data, partial(told, message.ack), (message.headers or {}).get(HEADER, "")
            )
            for message in await self._reader.pull(MOST_AT_ONCE)
        ]

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
