"""Hands over to the stream what the store has accepted, until the stream says that it has it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rave_platform.application.ports import StreamUnavailableError
from rave_platform.application.rounds import Rounds
from rave_platform.application.tracing import Tracer
from rave_platform.domain import tracing
from rave_platform.domain.handover import TakenIn
from rave_platform.domain.tracing import SpanKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.application.ports import (
        Blocking,
        EventStream,
        OutgoingEvent,
        OutgoingStore,
    )
    from rave_platform.domain.handover import HandoverStep

LOG = logging.getLogger(__name__)

# Events that are under way to the stream at a time; each is in memory with its body.
MOST_AT_ONCE = 32


class Outbox:
    """Publishes while `run` runs; `wake` says that there is something new."""

    def __init__(
        self,
        store: OutgoingStore,
        stream: EventStream,
        blocking: Blocking[Any],
        told: Callable[[HandoverStep], None] = lambda _step: None,
        tracer: Tracer | None = None,
    ) -> None:
        self._store = store
        self._stream = stream
        self._blocking = blocking
        self._told = told
        self._tracer = tracer or Tracer()
        self._rounds = Rounds(self.hand_over, "events wait")
        self._agreed = 0

    def wake(self) -> None:
        """Say that there is something to hand over."""
        self._rounds.wake()

    async def run(self) -> None:
        """Hand over, until cancelled."""
        await self._rounds.run()

    async def hand_over(self) -> int:
        """Publish some of what waits; return how many the stream answered to.

        Raises:
            StoreUnavailableError: if the store cannot be used.
            StreamUnavailableError: if the stream did not answer to one of them; to which it did is
                recorded all the same.
        """
        await self._agree()
        due = await self._blocking(lambda: self._store.due(MOST_AT_ONCE))
        answers = await asyncio.gather(*map(self._publish, due))
        answered = [
            (event, answer)
            for event, answer in zip(due, answers, strict=True)
            if not isinstance(answer, StreamUnavailableError)
        ]
        if answered:
            steps = [(event.number, step) for event, step in answered]
            await self._blocking(lambda: self._store.record(steps))
        for event, step in answered:
            self._tell(event, step)
        for answer in answers:
            if isinstance(answer, StreamUnavailableError):
                raise answer
        return len(due)

    async def _agree(self) -> None:
        """After each new connection, ask the stream what it still has."""
        if self._agreed and self._agreed == self._stream.connection:
            return
        identity = await self._stream.connect()
        connection = self._stream.connection
        lost = await self._blocking(lambda: self._store.agree(identity))
        if lost is None:
            LOG.warning("the stream is a new one; what the old one had is not sent again")
        elif lost:
            LOG.warning("the stream had lost events", extra={"count": lost})
        self._agreed = connection

    async def _publish(self, event: OutgoingEvent) -> HandoverStep | StreamUnavailableError:
        try:
            return await self._publish_traced(event)
        except StreamUnavailableError as fault:
            return fault

    async def _publish_traced(self, event: OutgoingEvent) -> HandoverStep:
        if event.cause is None:
            return await self._stream.publish(event)
        context = tracing.handed_over(event.cause.trace_id, event.message_id)
        context = replace(context, flags=event.cause.flags)
        with self._tracer.span(
            context, "hand over", parent=event.cause, kind=SpanKind.PRODUCER
        ) as span:
            span.say(messaging_message_id=event.message_id, messaging_system="nats")
            step = await self._stream.publish(replace(event, traceparent=context.header))
            if not isinstance(step, TakenIn):
                span.fail(getattr(step, "why", ""))
            return step

    def _tell(self, event: OutgoingEvent, step: HandoverStep) -> None:
        self._told(step)
        if not isinstance(step, TakenIn):
            LOG.warning(
                "the stream turned an event down",
                extra={"event_uuid": event.message_id, "why": getattr(step, "why", "")},
            )
