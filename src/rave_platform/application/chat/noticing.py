"""Says in a task's thread that its merge request was merged in the forge itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rave_platform.application.rounds import Rounds
from rave_platform.domain.chat import merges
from rave_platform.domain.events import EventMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.application.chat.ports import ConversationStore, ForgeReader
    from rave_platform.application.ports import Blocking
    from rave_platform.domain.chat.merges import AgentsForge

LOG = logging.getLogger(__name__)


class Noticing:
    """Notices merges while `run` runs; `said` is called whenever there is something to say."""

    def __init__(
        self,
        store: ConversationStore,
        reader: ForgeReader,
        blocking: Blocking[Any],
        forge: AgentsForge,
        said: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._reader = reader
        self._blocking = blocking
        self._forge = forge
        self._said = said
        self._rounds = Rounds(self.notice, "merges in the forge cannot be noticed")

    async def run(self) -> None:
        """Notice, until cancelled."""
        await self._rounds.run()

    async def notice(self) -> int:
        """Take in what the forge said; return how much.

        Raises:
            UnavailableError: if the stream or the store is not there.
        """
        found = await self._reader.said()
        for told in found:
            await self._take_in(told.data)
            await told.taken()
        # The reader has waited already.
        return max(1, len(found))

    async def _take_in(self, data: bytes) -> None:
        try:
            event = EventMessage.model_validate_json(data)
        except ValidationError:
            LOG.warning("the stream of events has something else")
            return
        task_id = merges.task_merged(event, self._forge)
        if task_id is None:
            return
        before = await self._blocking(lambda: self._store.task(task_id))
        deed = merges.told(before, event, self._forge) if before else None
        if deed is None:
            return
        await self._blocking(lambda: self._store.tell_merged(task_id, event.actor, deed))
        self._said()
