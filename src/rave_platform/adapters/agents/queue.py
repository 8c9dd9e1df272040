"""What agents are asked for and what is decided, in NATS JetStream.

Agents of a kind share a consumer: the server gives each task to one of them, and to another where
it hears nothing of the first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError
from pydantic import BaseModel, ValidationError

from rave_platform.adapters import taskstreams
from rave_platform.adapters.taskstreams import TASKS, away, told
from rave_platform.application.agents.ports import Delivery
from rave_platform.domain import tasks
from rave_platform.domain.tasks import AgentTask, DecisionKind, TaskDecision
from rave_platform.domain.tracing import HEADER

if TYPE_CHECKING:
    from typing import TypeVar
    from uuid import UUID

    from nats.js.client import JetStreamContext

    from rave_platform.adapters.stream import NatsStream
    from rave_platform.domain.tasks import AgentHeartbeat, AgentKind

    T = TypeVar("T")
    M = TypeVar("M", bound=BaseModel)

# Seconds to wait for a message, and until it is looked again whether there is a connection.
WAITING = 5.0
AGAIN = 0.2
# Seconds without a word after which the server brings a message again.
SILENT = 30.0


@dataclass(frozen=True)
class _Reader:
    """A consumer: its name, and what it reads."""

    name: str
    subject: str


class NatsTaskQueue:
    """A TaskQueue; who publishes sees to the connection."""

    def __init__(self, stream: NatsStream, agent: AgentKind, silent: float = SILENT) -> None:
        self._stream = stream
        self._silent = silent
        self._asked = _Reader(f"agents-{agent}", f"rave.tasks.v1.asked.{agent}.*")
        self._decided = _Reader("agents-decided", "rave.tasks.v1.decided.>")
        self._reading: dict[_Reader, tuple[int, JetStreamContext.PullSubscription]] = {}
        self._agents_seen_to = 0

    async def asked(self) -> Delivery | None:
        """Wait a moment for a task; return it."""
        return await self._next(self._asked)

    async def decided(self) -> Delivery | None:
        """Wait a moment for a decision; return it."""
        return await self._next(self._decided)

    async def _next(self, reader: _Reader) -> Delivery | None:
        if not self._stream.connection:
            # Whoever publishes says so already.
            await asyncio.sleep(AGAIN)
            return None
        try:
            (found,) = await (await self._subscription(reader)).fetch(1, timeout=WAITING)
        except NatsTimeoutError:
            return None
        except (NatsError, OSError, TimeoutError) as fault:
            # Made anew the next time: the server may have lost it.
            self._reading.pop(reader, None)
            raise away(fault) from fault
        return Delivery(
            found.data,
            partial(told, found.in_progress),
            partial(told, found.ack_sync),
            lambda seconds: told(partial(found.nak, delay=seconds)),
            (found.headers or {}).get(HEADER, ""),
        )

    async def _subscription(self, reader: _Reader) -> JetStreamContext.PullSubscription:
        connection, found = self._reading.get(reader, (0, None))
        if found is not None and connection == self._stream.connection:
            return found
        jetstream, connection = self._stream.jetstream(), self._stream.connection
        config = ConsumerConfig(
            durable_name=reader.name, filter_subject=reader.subject,
            ack_policy=AckPolicy.EXPLICIT, ack_wait=self._silent,
        )  # fmt: skip
        await jetstream.add_consumer(TASKS.name, config)
        found = await jetstream.pull_subscribe_bind(reader.name, TASKS.name)
        self._reading[reader] = (connection, found)
        return found

    async def standing(self, task_id: UUID) -> AgentTask | None:
        """Return how a task stands, as an agent said last; None if none said anything."""
        data = await self._last(f"rave.tasks.v1.told.{task_id}")
        return _read(AgentTask, data)

    async def cancelled(self, task_id: UUID) -> TaskDecision | None:
        """Return the decision that a task is no longer wanted, if there is one."""
        found = _read(TaskDecision, await self._last(f"rave.tasks.v1.decided.{task_id}.*"))
        return found if found and found.decision is DecisionKind.CANCEL else None

    async def _last(self, subject: str) -> bytes | None:
        jetstream = self._stream.jetstream()
        try:
            return (await jetstream.get_last_msg(TASKS.name, subject)).data
        except NotFoundError:
            return None
        except (NatsError, OSError, TimeoutError) as fault:
            raise away(fault) from fault

    async def beat(self, beat: AgentHeartbeat) -> None:
        """Give a sign of life."""
        jetstream = self._stream.jetstream()

        async def give() -> None:
            if self._agents_seen_to != self._stream.connection:
                await taskstreams.see_to_agents(jetstream)
                self._agents_seen_to = self._stream.connection
            await jetstream.publish(tasks.heartbeat_subject(beat), beat.model_dump_json().encode())

        await told(give)


def _read(model: type[M], data: bytes | None) -> M | None:
    try:
        return model.model_validate_json(data) if data else None
    except ValidationError:
        return None
