"""The webhook dispatcher: takes webhooks in, stores them, hands them over to the stream.

Usage: python -m rave_platform.dispatcher SETTINGS.toml
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from rave_platform.adapters import logs, settings
from rave_platform.adapters.metrics import DispatcherMetrics
from rave_platform.adapters.settings import SettingsError
from rave_platform.adapters.store import SqliteEvents
from rave_platform.adapters.stream import NatsStream
from rave_platform.adapters.web import DispatcherWeb
from rave_platform.application.intake import SourceIntake
from rave_platform.application.journal import Journal
from rave_platform.application.outbox import Outbox
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.application.retention import prune_forever

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_platform.adapters.settings import DispatcherSettings

LOG = logging.getLogger("rave_platform.dispatcher")

# Seconds that requests under way have when it is told to end.
ENDING = 5
# Connections that wait to be accepted.
BACKLOG = 512


class _Server(uvicorn.Server):
    """A server that is told to end by us, so that what runs beside it ends, too."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


async def serve(found: DispatcherSettings, store: SqliteEvents, worker: ThreadPoolExecutor) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()

    def blocking(call: Callable[[], Any]) -> asyncio.Future[Any]:
        return loop.run_in_executor(worker, call)

    metrics = DispatcherMetrics()
    stream = NatsStream(settings.stream_settings(found))
    outbox = Outbox(store, stream, blocking, metrics.told)
    journal = Journal(store, blocking, outbox.wake)
    intakes = {
        source.name: SourceIntake(source, journal.append)
        for source in settings.webhook_sources(found)
    }
    for name, intake in intakes.items():
        if intake.source.scheme is None:
            LOG.warning("a source has no secrets yet", extra={"source": name})
    web = DispatcherWeb(intakes, store, stream, blocking, metrics, found.body_limit_kib * 1024)
    server = _Server(
        uvicorn.Config(
            web.app(), loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, timeout_graceful_shutdown=ENDING,
        )
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    with listen(found.host, found.port) as listening:
        host, port = listening.getsockname()[:2]
        LOG.info("listening", extra={"host": host, "port": port})
        notify("READY=1")
        beside = [
            asyncio.create_task(journal.run()),
            asyncio.create_task(outbox.run()),
            asyncio.create_task(prune_forever(store, blocking)),
        ]
        await together(asyncio.create_task(server.serve([listening])), beside, server)
    await stream.close()


async def together(
    serving: asyncio.Task[None], beside: list[asyncio.Task[None]], server: uvicorn.Server
) -> None:
    """Wait for the server's end, and end what runs beside it.

    Raises:
        RuntimeError: if something beside it ended by itself: better no dispatcher, which systemd
            starts again, than half of one.
    """
    done, _ = await asyncio.wait({serving, *beside}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    await cancel(beside)
    for task in done - {serving}:
        raise RuntimeError("a part of the dispatcher ended by itself") from (
            None if task.cancelled() else task.exception()
        )


async def cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: the client of NATS swallows a cancellation now and then.

    It does so while it flushes or closes (nats-py 2.16, `_flush_pending` and `_close`).
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.1)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket whose connections send at once.

    asyncio asks for that only where a socket was made with IPPROTO_TCP: otherwise the body of an
    answer waits for the acknowledgement of its head, which a peer may delay by 40 ms.
    """
    listening = socket.create_server((host, port), backlog=BACKLOG)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def notify(state: str) -> None:
    """Tell systemd, if it wants to know (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(
                state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address
            )


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
            ThreadPoolExecutor(1, "store") as worker,
        ):
            asyncio.run(serve(found, store, worker))
    except (SettingsError, StoreUnavailableError, OSError) as fault:
        LOG.error("cannot serve", extra={"why": str(fault)})  # noqa: TRY400 - no traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
