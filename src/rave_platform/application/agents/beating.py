"""Gives a sign of life every few seconds, for whoever wants to know which agents are there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rave_platform.application.ports import StreamUnavailableError
from rave_platform.domain.tasks import AgentHeartbeat, AgentKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from rave_platform.application.agents.ports import TaskQueue

# Seconds: an agent counts as gone after 60 without one.
EVERY = 15.0
# And until the next is tried where the stream is away.
AGAIN = 1.0


async def beat_forever(
    queue: TaskQueue,
    agent: AgentKind,
    instance: str,
    current: Callable[[], UUID | None],
    *,
    alive: Callable[[], None] = lambda: None,
    beaten: Callable[[], None] = lambda: None,
) -> None:
    """Give signs of life, until cancelled; `alive` is called with each, whoever takes it, and
    `beaten` once the stream has taken it.
    """
    while True:
        alive()
        at = datetime.now(UTC)
        beat = AgentHeartbeat(agent=agent, instance=instance, task_id=current(), at=at)
        try:
            await queue.beat(beat)
        except StreamUnavailableError:
            await asyncio.sleep(AGAIN)
            continue
        beaten()
        await asyncio.sleep(EVERY)
