"""The streams of tasks and of agents' signs of life: what both sides need to agree on.

Whoever publishes tasks makes theirs; the other is made by whoever comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import NotFoundError

from rave_platform.adapters.stream import StreamName
from rave_platform.application.ports import StreamUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.js.client import JetStreamContext

TASKS = StreamName("RAVE_TASKS", "rave.tasks.>")
AGENTS = StreamName("RAVE_AGENTS", "rave.agents.>")

# Seconds that a sign of life is kept.
KEPT = 120.0


async def see_to_agents(jetstream: JetStreamContext) -> None:
    """Make the stream that keeps the last sign of life of each agent, if there is none."""
    try:
        await jetstream.stream_info(AGENTS.name)
    except NotFoundError:
        await jetstream.add_stream(
            StreamConfig(
                name=AGENTS.name, subjects=[AGENTS.subjects], storage=StorageType.FILE,
                max_msgs_per_subject=1, max_age=KEPT, max_bytes=1024 * 1024,
            )
        )  # fmt: skip


async def told(tell: Callable[[], Awaitable[object]]) -> None:
    """Tell the server something.

    Raises:
        StreamUnavailableError: if it is not known to have heard it.
    """
    try:
        await tell()
    except (NatsError, OSError, TimeoutError) as fault:
        raise away(fault) from fault


def away(fault: Exception) -> StreamUnavailableError:
    """Return what the application knows of a server that does not answer."""
    return StreamUnavailableError(f"NATS: {type(fault).__name__}")
