"""The streams of tasks and of agents' signs of life: what both sides need to agree on.

Whoever publishes tasks makes theirs; the other is made by whoever comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nats.js.api import StorageType, StreamConfig
from nats.js.errors import NotFoundError

from rave_platform.adapters.stream import StreamName

if TYPE_CHECKING:
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
