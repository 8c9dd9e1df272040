"""Does in the chat what was decided, in its order, and says nothing twice.

The chat knows a message again for a while, by the name under which we send it; a homeserver that
was restarted does not. So whatever may have been sent before (by a process before this one, or
without an answer) is looked for first.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from rave_platform.application.chat.ports import ChatRefusedError, ChatUnavailableError
from rave_platform.application.rounds import Rounds
from rave_platform.application.tracing import Tracer
from rave_platform.domain import tracing
from rave_platform.domain.chat.conversation import DeedKind
from rave_platform.domain.handover import TakenIn, TurnedDown
from rave_platform.domain.tracing import SpanKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.application.chat.ports import ChatChannel, ConversationStore, PendingDeed
    from rave_platform.application.ports import Blocking
    from rave_platform.domain.chat.conversation import ChatDeed
    from rave_platform.domain.handover import HandoverStep

LOG = logging.getLogger(__name__)

MOST_AT_ONCE = 16


class Speaking:
    """Speaks while `run` runs; `done` is told of each deed with what came of it."""

    def __init__(
        self,
        store: ConversationStore,
        channel: ChatChannel,
        blocking: Blocking[Any],
        done: Callable[[ChatDeed, HandoverStep], None] = lambda _deed, _step: None,
        tracer: Tracer | None = None,
    ) -> None:
        self._store = store
        self._channel = channel
        self._blocking = blocking
        self._done = done
        self._tracer = tracer or Tracer()
        self._rounds = Rounds(self.speak, "answers wait")
        # Deeds with a higher number were decided by this process, and are new but for the doubtful.
        self._before: int | None = None
        self._doubtful: set[int] = set()

    def wake(self) -> None:
        """Say that there is something to do."""
        self._rounds.wake()

    async def run(self) -> None:
        """Speak, until cancelled."""
        await self._rounds.run()

    async def speak(self) -> int:
        """Do some of what is due; return how much.

        Raises:
            StoreUnavailableError: if the store cannot be used.
            ChatUnavailableError: if the chat is not there; what was done before that is recorded.
        """
        if self._before is None:
            self._before = await self._blocking(self._store.last_deed)
        due = await self._blocking(lambda: self._store.deeds(MOST_AT_ONCE))
        for pending in due:
            step = await self._act_traced(pending)
            record = partial(self._store.record_deeds, [(pending.number, step)])
            await self._blocking(record)
            self._doubtful.discard(pending.number)
            self._tell(pending.deed, step)
        return len(due)

    async def _act_traced(self, pending: PendingDeed) -> HandoverStep:
        deed = pending.deed
        cause = tracing.parse(deed.traceparent)
        if cause is None:
            return await self._act(pending)
        context = tracing.named(cause.trace_id, deed.key)
        with self._tracer.span(context, str(deed.kind), parent=cause, kind=SpanKind.CLIENT) as span:
            step = await self._act(pending)
            if isinstance(step, TurnedDown):
                span.fail(step.why)
            return step

    async def _act(self, pending: PendingDeed) -> HandoverStep:
        deed, number = pending.deed, pending.number
        doubtful = number <= (self._before or 0) or number in self._doubtful
        try:
            if not (doubtful and deed.kind is DeedKind.SAY and await self._channel.acted(deed)):
                await self._channel.act(deed)
        except ChatUnavailableError:
            self._doubtful.add(number)
            raise
        except ChatRefusedError as fault:
            return TurnedDown(str(fault), forever=True)
        return TakenIn(0)

    def _tell(self, deed: ChatDeed, step: HandoverStep) -> None:
        self._done(deed, step)
        if isinstance(step, TurnedDown):
            LOG.warning("the chat turned a deed down", extra={"why": step.why, "count": 1})
