"""HTTP for nginx alone, which has heard each request to its end and waits for each answer.

systemd hands over the socket and starts the program with the first request; while nobody comes it
ends, and takes no memory.
"""

from __future__ import annotations

import select
import threading
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

PATIENCE = 10.0  # seconds for one request to arrive, and for its answer to be taken
MOST = 64 << 10  # bytes of one
AT_ONCE = 8
REASONS = {
    200: "OK", 204: "No Content", 303: "See Other", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error",
    503: "Service Unavailable",
}  # fmt: skip


class PageRequest(namedtuple("PageRequest", ("method", "path", "query", "headers", "body"))):
    """A request. Names of headers are in lower case; `query` and `body` are as they came."""

    __slots__ = ()
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: str

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, or an empty string."""
        for part in self.headers.get("cookie", "").split(";"):
            known, _, value = part.strip().partition("=")
            if known == name:
                return value
        return ""


class PageAnswer(namedtuple("PageAnswer", ("status", "body", "headers"), defaults=("", ()))):
    """What is answered; `headers` are pairs, for a name may be there twice."""

    __slots__ = ()
    status: int
    body: str
    headers: tuple[tuple[str, str], ...]


def serve(
    listener: socket.socket,
    answer: Callable[[PageRequest], PageAnswer],
    idle: float,
    at_once: int = AT_ONCE,
) -> None:
    """PageAnswer until nobody has come for `idle` seconds."""
    room = threading.BoundedSemaphore(at_once)

    def attend(client: socket.socket) -> None:
        try:
            with client:
                _attend(client, answer)
        finally:
            room.release()

    while select.select([listener], [], [], idle)[0]:
        client, _ = listener.accept()
        room.acquire()
        threading.Thread(target=attend, args=(client,)).start()


def _attend(client: socket.socket, answer: Callable[[PageRequest], PageAnswer]) -> None:
    """Hear one request and answer it; who left meanwhile is no fault."""
    client.settimeout(PATIENCE)
    try:
        try:
            said = answer(hear(client))
        except ValueError:
            said = PageAnswer(400)
        client.sendall(written(said))
    except OSError:
        return


def hear(client: socket.socket) -> PageRequest:
    """Return a request, heard to its end.

    Raises:
        ValueError: it is no HTTP, or too long.
        OSError: the other side left or took too long.
    """
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard = _more(client, heard)
    head, _, body = heard.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines)
    }
    wanted = int(headers.get("content-length", "0"))
    if not 0 <= wanted <= MOST:
        raise ValueError("it is too long")
    while len(body) < wanted:
        body = _more(client, body)
    path, _, query = target.partition("?")
    return PageRequest(method, path, query, headers, body[:wanted].decode("latin-1"))


def _more(client: socket.socket, heard: bytes) -> bytes:
    piece = client.recv(MOST)
    if not piece:
        raise ConnectionError("it ended too early")
    if len(heard) + len(piece) > 2 * MOST:
        raise ValueError("it is too long")
    return heard + piece


def written(said: PageAnswer) -> bytes:
    """Return the bytes of an answer.

    Raises:
        ValueError: a header would be two.
    """
    body = said.body.encode()
    headers = [
        *said.headers, ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))), ("Connection", "close"),
    ]  # fmt: skip
    lines = [f"{name}: {value}" for name, value in headers]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header with a line break")
    head = "\r\n".join([f"HTTP/1.1 {said.status} {REASONS[said.status]}", *lines])
    return f"{head}\r\n\r\n".encode("latin-1") + body
