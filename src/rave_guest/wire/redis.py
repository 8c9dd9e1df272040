"""Redis' protocol, RESP2: commands out, replies in (redis.io/docs/reference/protocol-spec)."""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

    Reply = str | int | bytes | None | list["Reply"]


class RedisError(Exception):
    """An error reply; the message starts with Redis' error code."""


def encode(*words: str | bytes) -> bytes:
    """Return a command as an array of bulk strings."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def read(stream: BinaryIO) -> Reply:
    """Read one reply.

    Raises:
        RedisError: if it is an error reply.
        ValueError: if it is no complete reply.
    """
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if not line.endswith(b"\r\n"):
        raise ValueError("the reply breaks off")
    if kind == b"+":
        return rest.decode(errors="replace")
    if kind == b"-":
        raise RedisError(rest.decode(errors="replace"))
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return _bulk(stream, int(rest))
    if kind == b"*":
        count = int(rest)
        return None if count < 0 else [read(stream) for _ in range(count)]
    raise ValueError(f"not a reply: {line[:40]!r}")


def _bulk(stream: BinaryIO, size: int) -> bytes | None:
    if size < 0:
        return None
    data = stream.read(size + 2)
    if len(data) != size + 2 or not data.endswith(b"\r\n"):
        raise ValueError("the reply breaks off")
    return data[:-2]


class Redis:
    """A connection to the Redis of this machine; a context manager.

    Raises:
        OSError: no connection, or no reply in time.
    """

    def __init__(self, timeout: float, port: int = 6379) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Redis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._socket.close()

    def ask(self, *words: str | bytes) -> Reply:
        """Send one command and return its reply.

        Raises:
            RedisError: if Redis refuses it.
        """
        self._socket.sendall(encode(*words))
        return read(self._stream)
