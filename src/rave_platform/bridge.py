"""The chat bridge: takes commands of people in a chat, has agents do them, says what comes of it.

Usage: python -m rave_platform.bridge SETTINGS.toml
"""

from __future__ import annotations

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_platform import service
from rave_platform.adapters import configuration, logs
from rave_platform.adapters import spans as span_stores
from rave_platform.adapters.chat import settings
from rave_platform.adapters.chat.conversations import SqliteConversations
from rave_platform.adapters.chat.events import NatsForgeReader
from rave_platform.adapters.chat.metrics import BridgeMetrics
from rave_platform.adapters.chat.tasks import NatsTaskReader
from rave_platform.adapters.chat.web import BridgeWeb
from rave_platform.adapters.configuration import SettingsError
from rave_platform.adapters.stream import NatsStream
from rave_platform.adapters.taskstreams import TASKS
from rave_platform.application.chat.following import Following
from rave_platform.application.chat.noticing import Noticing
from rave_platform.application.chat.obeying import Obeying
from rave_platform.application.chat.speaking import Speaking
from rave_platform.application.outbox import Outbox
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.application.retention import prune_forever
from rave_platform.application.tracing import SpanKeeper, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from rave_platform.adapters.chat.settings import BridgeSettings
    from rave_platform.application.chat.ports import ChatChannel
    from rave_platform.application.ports import SpanStore
    from rave_platform.domain.chat.conversation import HeardMessage

LOG = logging.getLogger("rave_platform.bridge")


async def serve(
    found: BridgeSettings,
    channel: ChatChannel,
    store: SqliteConversations,
    kept: SpanStore,
    worker: ThreadPoolExecutor,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()

    def blocking(call: Callable[[], Any]) -> asyncio.Future[Any]:
        return loop.run_in_executor(worker, call)

    metrics = BridgeMetrics()
    stream = NatsStream(
        configuration.stream_settings(found.nats, found.retention_days), TASKS, "bridge"
    )
    reader = NatsTaskReader(stream)
    spans = SpanKeeper(kept, blocking)
    tracer = Tracer(spans.keep)
    outbox = Outbox(store.outgoing, stream, blocking, tracer=tracer)
    speaking = Speaking(store, channel, blocking, metrics.done, tracer)
    obeying = Obeying(
        store, blocking, settings.permissions(found),
        directory=settings.directory(found), agents=reader, rooms=lambda: channel.rooms,
        decided=metrics.decided, tracer=tracer,
    )  # fmt: skip
    obeying.then(speaking.wake)
    obeying.then(outbox.wake)

    async def hear(heard: Sequence[HeardMessage], position: str) -> None:
        await blocking(lambda: store.hear(heard, position))
        metrics.heard(heard)
        if heard:
            obeying.wake()

    def noticing() -> list[Coroutine[Any, Any, None]]:
        forge = settings.forge(found)
        if forge is None:
            return []
        events = NatsForgeReader(stream, forge.source)
        return [Noticing(store, events, blocking, forge, speaking.wake).run()]

    web = BridgeWeb(store, channel, stream, reader, blocking, metrics)
    await service.serve(
        web.app(), found.host, found.port,
        [
            channel.listen(hear, await blocking(store.position)),
            obeying.run(), speaking.run(), outbox.run(),
            Following(store, reader, blocking, speaking.wake).run(),
            *noticing(),
            prune_forever(store, blocking), spans.run(), prune_forever(kept, blocking),
        ],
    )  # fmt: skip
    await spans.flush()
    await channel.close()
    await stream.close()


def main(words: list[str]) -> int:
    """Run it; 2 for what was asked, 1 for what is wrong."""
    if len(words) != 1:
        sys.stderr.write(__doc__ or "")
        return 2
    logs.begin()
    # Each request would be a line.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        found = settings.read(Path(words[0]))
        channel = settings.channel(found)
        with (
            SqliteConversations(found.store, found.retention_days) as store,
            span_stores.kept(found.spans, "chat-bridge", found.retention_days) as kept,
            ThreadPoolExecutor(1, "store") as worker,
        ):
            asyncio.run(serve(found, channel, store, kept, worker))
    except (SettingsError, StoreUnavailableError, OSError) as fault:
        LOG.error("cannot serve", extra={"why": str(fault)})  # noqa: TRY400 - no traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
