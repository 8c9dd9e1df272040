"""Ends what runs beside something: the client of NATS swallows a cancellation now and then.

It does so while it flushes or closes (nats-py 2.16, `_flush_pending` and `_close`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# Seconds until what has not ended is cancelled again.
AGAIN = 0.1


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=AGAIN)
