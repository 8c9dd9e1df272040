"""PostgreSQL's protocol: frames, and a query over the local socket.

Message formats: postgresql.org/docs/current/protocol-message-formats.html; how a password is
checked: scram.py.
"""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

AUTH_OK = 0
# invalid_password, invalid_authorization_specification
LOGIN_REFUSED = {"28P01", "28000"}


class ServerError(Exception):
    """The server's error: `code` is the SQLSTATE (28P01: the password is wrong)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def startup(user: str, database: str, **parameters: str) -> bytes:
    """Return the start-up message, protocol 3.0."""
    body = struct.pack("!I", 196608)
    for name, value in {"user": user, "database": database, **parameters}.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


def message(kind: bytes, body: bytes) -> bytes:
    """Return a frame: type, length, body."""
    return kind + struct.pack("!I", len(body) + 4) + body


def read(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Read one frame.

    Raises:
        ServerError: if it is an ErrorResponse.
        ValueError: if the connection ends within it.
    """
    head = stream.read(5)
    if len(head) != 5:
        raise ValueError("the connection broke off")
    size = struct.unpack("!I", head[1:])[0] - 4
    body = stream.read(size)
    if len(body) != size:
        raise ValueError("the connection broke off")
    if head[:1] == b"E":
        fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
        raise ServerError(fields.get(b"C", ""), fields.get(b"M", "refused"))
    return head[:1], body


def socket_of(port: int) -> str:
    """Return the local socket of the server on a port."""
    return f"/run/postgresql/.s.PGSQL.{port}"


def ask(query: str, timeout: float, *, user: str = "postgres", port: int = 5432) -> str:
    """Return the first column of a query's first row as text, asked over the local socket.

    Raises:
        ServerError: the server does not take this account of the machine for `user`, or the query.
        OSError: no connection, or no answer in time.
        ValueError: the server breaks off, asks for a password, or returns no row.
    """
    with session(timeout, user=user, port=port) as asked:
        return asked(query)


@contextmanager
def session(
    timeout: float, *, user: str = "postgres", port: int = 5432
) -> Iterator[Callable[[str], str]]:
    """Open a session over the local socket; yields what asks in it as `ask` does.

    Raises:
        ServerError, OSError, ValueError: as `ask`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.settimeout(timeout)
        plain.connect(socket_of(port))
        with plain.makefile("rb") as stream:

            def asked(query: str) -> str:
                plain.sendall(message(b"Q", query.encode() + b"\0"))
                answer = _await_ready(stream)
                if answer is None:
                    raise ValueError("the query returned nothing")
                return answer

            plain.sendall(startup(user, "postgres"))
            _await_ready(stream)
            yield asked
            plain.sendall(message(b"X", b""))


def _await_ready(stream: BinaryIO) -> str | None:
    """Read until ReadyForQuery; return the first value of the first DataRow, if there is one."""
    value: str | None = None
    while True:
        kind, body = read(stream)
        if kind == b"Z":
            return value
        if kind == b"R" and code(body) != AUTH_OK:
            raise ValueError("PostgreSQL asks for a password on the local socket")
        if kind == b"D" and value is None:
            value = first_column(body)


def first_column(row: bytes) -> str:
    """Return the first column of a DataRow as text; NULL is empty.

    Raises:
        ValueError: the row has no column, or is cut short.
    """
    columns, size = struct.unpack("!hi", row[:6]) if len(row) >= 6 else (0, 0)
    if columns < 1 or len(row) < 6 + max(size, 0):
        raise ValueError("not a row")
    return row[6 : 6 + max(size, 0)].decode()


def code(body: bytes) -> int:
    """Return what an authentication request asks for."""
    return int(struct.unpack("!I", body[:4])[0])
