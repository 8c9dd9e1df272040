"""The webhook dispatcher: takes webhooks in, stores them, hands them over to the stream.

Usage: python -m rave_platform.dispatcher SETTINGS.toml
"""

from __future__ import annotations

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_platform import service
from rave_platform.adapters import configuration, logs, settings
from rave_platform.adapters import spans as span_stores
from rave_platform.adapters.configuration import SettingsError
from rave_platform.adapters.metrics import DispatcherMetrics
from rave_platform.adapters.store import SqliteEvents
from rave_platform.adapters.stream import NatsStream
from rave_platform.adapters.web import DispatcherWeb
from rave_platform.application.intake import SourceIntake
from rave_platform.application.journal import Journal
from rave_platform.application.outbox import Outbox
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.application.retention import prune_forever
from rave_platform.application.tracing import SpanKeeper, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.adapters.settings import DispatcherSettings
    from rave_platform.application.ports import SpanStore

LOG = logging.getLogger("rave_platform.dispatcher")


async def serve(
    found: DispatcherSettings, store: SqliteEvents, kept: SpanStore, worker: ThreadPoolExecutor
) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()

    def blocking(call: Callable[[], Any]) -> asyncio.Future[Any]:
        return loop.run_in_executor(worker, call)

    metrics = DispatcherMetrics(found.sources)
    stream = NatsStream(configuration.stream_settings(found.nats, found.retention_days))
    spans = SpanKeeper(kept, blocking)
    tracer = Tracer(spans.keep)
    outbox = Outbox(store, stream, blocking, metrics.told, tracer)
    journal = Journal(store, blocking, outbox.wake)
    intakes = {
        source.name: SourceIntake(source, journal.append, tracer=tracer)
        for source in settings.webhook_sources(found)
    }
    for name, intake in intakes.items():
        if intake.source.scheme is None:
            LOG.warning("a source has no secrets yet", extra={"source": name})
    web = DispatcherWeb(intakes, store, stream, blocking, metrics, found.body_limit_kib * 1024)
    await service.serve(
        web.app(), found.host, found.port,
        [
            journal.run(), outbox.run(), spans.run(),
            prune_forever(store, blocking), prune_forever(kept, blocking),
        ],
    )  # fmt: skip
    await spans.flush()
    await stream.close()


def main(words: list[str]) -> int:
    """Run it; 2 for what was asked, 1 for what is wrong."""
    if len(words) != 1:
        sys.stderr.write(__doc__ or "")
        return 2
    logs.begin()
    try:
        found = settings.read(Path(words[0]))
        with (
            SqliteEvents(found.store, found.retention_days) as store,
            span_stores.kept(found.spans, "webhook-dispatcher", found.retention_days) as kept,
            ThreadPoolExecutor(1, "store") as worker,
        ):
            asyncio.run(serve(found, store, kept, worker))
    except (SettingsError, StoreUnavailableError, OSError) as fault:
        LOG.error("cannot serve", extra={"why": str(fault)})  # noqa: TRY400 - no traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
