"""What Prometheus is told of this machine, by which alerts go: how its services are, memory, disk.

A thread of the reporter answers. Prometheus asks for it more often than for anything else, and a
program of its own takes an emulated processor ten times as long to gather and to tell the same.

It listens on loopback alone, and looks at nothing in a question but where it ends.
"""

from __future__ import annotations

import socket
import time

from rave_guest import report, status, vitals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PATIENCE = 2.0  # seconds for one question; others wait meanwhile
MOST = 8192  # bytes of one
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n"
)


def port(plan: Mapping[str, Any]) -> int | None:
    """Where the plan lets Prometheus ask; None if it does not."""
    for service in plan["services"].values():
        often = (service.get("scrape") or {}).get("often")
        if often:
            return int(often["port"])
    return None


def serve(number: int) -> None:
    """Answer one after the other, for ever.

    Raises:
        OSError: the port is taken.
    """
    with socket.create_server(("127.0.0.1", number)) as listener:
        while True:
            client, _ = listener.accept()
            with client:
                try:
                    answer(client)
                except OSError:
                    # Gone, or too slow: it asks again.
                    continue


def answer(client: socket.socket) -> None:
    """Hear a question of HTTP to its end, and answer it.

    Raises:
        OSError: the other side left or took too long.
    """
    until = time.monotonic() + PATIENCE
    asked = b""
    while b"\r\n\r\n" not in asked:
        client.settimeout(max(until - time.monotonic(), 0.001))
        piece = client.recv(MOST)
        asked += piece
        if not piece or len(asked) > MOST:
            return
    told = text().encode()
    client.sendall(HEAD % len(told) + told)


def text() -> str:
    """What was last seen of the services, and what the machine is like now."""
    seen = report.read(status.METRICS)
    return f"{seen}\n{vitals.current()}" if seen else vitals.current()
