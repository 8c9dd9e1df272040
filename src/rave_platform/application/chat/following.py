"""Says in a task's thread what becomes of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rave_platform.application.rounds import Rounds
from rave_platform.domain import tasks
from rave_platform.domain.chat import conversation, merges
from rave_platform.domain.tasks import DecisionOutcome, TaskDecision

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.application.chat.ports import ConversationStore, TaskReader, ToldTask
    from rave_platform.application.ports import Blocking

LOG = logging.getLogger(__name__)


class Following:
    """Follows tasks while `run` runs; `said` is called whenever there is something to say."""

    def __init__(
        self,
        store: ConversationStore,
        reader: TaskReader,
        blocking: Blocking[Any],
        said: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._reader = reader
        self._blocking = blocking
        self._said = said
        self._rounds = Rounds(self.follow, "tasks cannot be followed")

    async def run(self) -> None:
        """Follow, until cancelled."""
        await self._rounds.run()

    async def follow(self) -> int:
        """Take in what agents said; return how much.

        Raises:
            UnavailableError: if the stream or the store is not there.
        """
        found = await self._reader.told()
        for told in found:
            await self._take_in(told)
            await told.taken()
        # The reader has waited already.
        return max(1, len(found))

    async def _take_in(self, told: ToldTask) -> None:
        found = tasks.read(told.data)
        if found is None or isinstance(found, TaskDecision):
            LOG.warning("an agent said something else than how a task stands")
            return
        before = await self._blocking(lambda: self._store.task(found.task_id))
        if before is None:
            return
        if isinstance(found, DecisionOutcome):
            said = replace(merges.carried_out(before, found), traceparent=told.traceparent)
            await self._blocking(lambda: self._store.tell_outcome(found, said))
            self._said()
        elif deed := conversation.told(before, found):
            news = replace(deed, traceparent=told.traceparent)
            await self._blocking(lambda: self._store.tell(found, news))
            self._said()
