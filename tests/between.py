"""Something between clients and a server of this host, which decides what gets through."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

PIECE = 16384  # bytes


class Between:
    """A context that ends it, with each connection."""

    def __init__(self, server: int) -> None:
        """`server` is the port of the server."""
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]

    def lets(self, piece: int, carried: int, *, up: bool) -> bool:
        """Return whether a piece gets through, or its connection is cut.

        Args:
            piece: its bytes.
            carried: bytes of that connection in that direction by now, with it.
            up: whether it is the client's.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_fault: object) -> None:
        # A listener that is closed does not wake whoever accepts.
        self._listening.shutdown(socket.SHUT_RDWR)
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                thread = threading.Thread(target=self._stand_between, args=(client,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _stand_between(self, client: socket.socket) -> None:
        with (
            client,
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self._server)) as server,
        ):
            self._open += (client, server)
            up = threading.Thread(
                target=self._carry, args=(client, server), kwargs={"up": True}, daemon=True
            )
            up.start()
            self._carry(server, client, up=False)
            up.join()

    def _carry(self, source: socket.socket, target: socket.socket, *, up: bool) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(PIECE):
                carried += len(data)
                if not self.lets(len(data), carried, up=up):
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
