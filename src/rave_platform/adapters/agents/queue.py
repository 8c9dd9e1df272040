"""What agents are asked for and what is decided, in NATS JetStream.

Agents of a kind share a consumer: the server gives each task to one of them, and to another where
it hears nothing of the first.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from pydantic import BaseModel, ValidationError

from rave_platform.adapters import taskstreams
from rave_platform.adapters.pulling import SILENT, DurableConsumer
from rave_platform.adapters.taskstreams import TASKS, away, told
from rave_platform.application.agents.ports import Delivery
from rave_platform.domain import tasks
from rave_platform.domain.tasks import AgentTask, DecisionKind, TaskDecision
from rave_platform.domain.tracing import HEADER

if TYPE_CHECKING:
    from typing import TypeVar
    from uuid import UUID

    from rave_platform.adapters.stream import NatsStream
    from rave_platform.domain.tasks import AgentHeartbeat, AgentKind

    T = TypeVar("T")
    M = TypeVar("M", bound=BaseModel)

# Seconds to wait for a message: no part of SILENT, so that what is brought again is not always
# brought to the same agent.
WAITING = 13.0


class NatsTaskQueue:
    """A TaskQueue; who publishes sees to the connection."""

    def __init__(self, stream: NatsStream, agent: AgentKind, silent: float = SILENT) -> None:
        self._stream = stream

        def consumer(name: str, subject: str) -> DurableConsumer:
            return DurableConsumer(stream, TASKS, name, subject, waits=WAITING, silent=silent)

        self._asked = consumer(f"agents-{agent}", f"rave.tasks.v1.asked.{agent}.*")
        self._decided = consumer("agents-decided", "rave.tasks.v1.decided.>")
        self._agents_seen_to = 0

    async def asked(self) -> Delivery | None:
        """Wait a moment for a task; return it."""
        return await self._next(self._asked)

    async def decided(self) -> Delivery | None:
        """Wait a moment for a decision; return it."""
        return await self._next(self._decided)

    async def _next(self, consumer: DurableConsumer) -> Delivery | None:
        messages = await consumer.pull()
        if not messages:
            return None
        (found,) = messages
        return Delivery(
            found.data,
            partial(told, found.in_progress),
            partial(told, found.ack_sync),
            lambda seconds: told(partial(found.nak, delay=seconds)),
            (found.headers or {}).get(HEADER, ""),
        )

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
