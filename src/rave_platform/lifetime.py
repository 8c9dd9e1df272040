"""When a service of the platform begins and ends: what systemd tells us, and is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

from rave_platform.application.cancelling import cancel

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence


async def work(parts: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Work until SIGTERM or SIGINT.

    Raises:
        RuntimeError: if a part ended by itself: better no service, which systemd starts again, than
            half of one.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    ending = asyncio.create_task(told.wait())
    working = [asyncio.create_task(part) for part in parts]
    notify("READY=1")
    done, _ = await asyncio.wait({ending, *working}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    await cancel(working)
    for task in done - {ending}:
        raise RuntimeError("a part of the service ended by itself") from (
            None if task.cancelled() else task.exception()
        )


def notify(state: str, *handed: int) -> None:
    """Tell systemd, if it wants to know (sd_notify(3)), and hand it descriptors."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            if handed:
                socket.send_fds(end, [state.encode()], handed)
            else:
                end.send(state.encode())
