"""What each service of the platform does: serve HTTP on loopback, work beside it, end when told."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from rave_platform import lifetime
from rave_platform.application.cancelling import cancel
from rave_platform.listening import listen

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from starlette.applications import Starlette

LOG = logging.getLogger(__name__)

# Seconds that requests under way have when it is told to end.
ENDING = 5
# Seconds for which a connection without requests is kept: longer than who asks here keeps it
# (Synapse two minutes), so that it is not closed at the moment at which somebody asks.
KEPT = 150


class _Server(uvicorn.Server):
    """A server that is told to end by us, so that what runs beside it ends, too."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


async def serve(
    app: Starlette, host: str, port: int, beside: Sequence[Coroutine[Any, Any, None]]
) -> None:
    """Serve until SIGTERM or SIGINT, and work beside it meanwhile.

    Raises:
        RuntimeError: if something beside it ended by itself.
    """
    loop = asyncio.get_running_loop()
    server = _Server(
        uvicorn.Config(
            app, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, timeout_graceful_shutdown=ENDING,
            timeout_keep_alive=KEPT,
        )
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    with listen(host, port) as listening:
        host, port = listening.getsockname()[:2]
        LOG.info("listening", extra={"host": host, "port": port})
        lifetime.notify("READY=1")
        working = [asyncio.create_task(work) for work in beside]
        await together(asyncio.create_task(server.serve([listening])), working, server)


async def together(
    serving: asyncio.Task[None], beside: list[asyncio.Task[None]], server: uvicorn.Server
) -> None:
    """Wait for the server's end, and end what runs beside it.

    Raises:
        RuntimeError: if something beside it ended by itself: better no service, which systemd
            starts again, than half of one.
    """
    done, _ = await asyncio.wait({serving, *beside}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving
    await cancel(beside)
    for task in done - {serving}:
        raise RuntimeError("a part of the service ended by itself") from (
            None if task.cancelled() else task.exception()
        )
