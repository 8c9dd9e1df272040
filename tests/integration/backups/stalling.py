"""A way to a server that carries only so much: what comes after that waits, and nothing is said."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 16384  # bytes


@dataclass
class StallingWay:
    """A port that leads to another, and carries `most` bytes in all; `stalled` is set then."""

    to: int
    most: int
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    stalled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    carried: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def wait(self) -> None:
        assert self.stalled.wait(CEILING), f"it carried {self.carried} of {self.most} bytes"

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self._lead, args=(near,), daemon=True).start()

    def _lead(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self.to)) as far:
            back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
            back.start()
            self._carry(near, far)
            back.join()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                self.carried += len(data)
                if self.carried > self.most:
                    self.stalled.set()
                    self.ended.wait()
                    break
                target.sendall(data)
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


@contextmanager
def stalling(to: int, most: int) -> Iterator[StallingWay]:
    """Lead to a port of this host with `most` bytes in all."""
    way = StallingWay(to, most)
    threading.Thread(target=way.accept, daemon=True).start()
    try:
        yield way
    finally:
        way.ended.set()
        # It wakes whoever waits there; closing alone does not (shutdown(2), accept(2)).
        with suppress(OSError):
            way.listener.shutdown(socket.SHUT_RDWR)
        way.listener.close()
