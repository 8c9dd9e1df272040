"""The pool's bell: who changes what the pool is to do rings it, and whoever serves looks at once.

Nothing is lost with it: whoever serves looks some times a second anyway.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rave_cli import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def place() -> Path:
    """Return where the bell hangs."""
    return paths.runtime_dir() / "pool-bell.sock"


def ring() -> None:
    """Ring, whether somebody hears it or not."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.setblocking(False)
        mouth.sendto(b"!", os.fspath(place()))


@contextmanager
def hung(do: Callable[[], None]) -> Iterator[None]:
    """Call `do` in a thread of its own whenever somebody has rung meanwhile; once for all who ring
    while it is at it. Only whoever serves the pool may hang it.

    Raises:
        RaveError: HOST if it cannot be hung there.
    """
    paths.private_dir(place().parent)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        with paths.refusing(place()):
            place().unlink(missing_ok=True)
            bell.bind(os.fspath(place()))
        hearing = threading.Thread(target=_hear, args=(bell, do), name="bell of the pool")
        hearing.start()
        try:
            yield
        finally:
            # Whoever rings now finds nobody; only we have the bell itself.
            place().unlink(missing_ok=True)
            bell.shutdown(socket.SHUT_RD)
            hearing.join()


def _hear(bell: socket.socket, do: Callable[[], None]) -> None:
    while bell.recv(1):
        with suppress(BlockingIOError):
            while bell.recv(1, socket.MSG_DONTWAIT):
                continue
            return
        do()
