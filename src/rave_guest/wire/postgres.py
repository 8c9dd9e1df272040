"""PostgreSQL's protocol: a query over the local socket, and whether TCP admits a password.

Message formats: postgresql.org/docs/current/protocol-message-formats.html; SCRAM: RFC 5802, 7677.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import struct
from typing import BinaryIO

SCRAM = b"SCRAM-SHA-256"
SOCKET = "/run/postgresql/.s.PGSQL.5432"
_AUTH_OK, _AUTH_SASL, _AUTH_CONTINUE, _AUTH_FINAL = 0, 10, 11, 12


class Refused(Exception):  # noqa: N818 - it reads as what happened
    """The server's error: `code` is the SQLSTATE (28P01: the password is wrong)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def startup(user: str, database: str) -> bytes:
    """Return the start-up message, protocol 3.0."""
    body = struct.pack("!I", 196608)
    body += b"".join(part.encode() + b"\0" for part in ("user", user, "database", database, ""))
    return struct.pack("!I", len(body) + 4) + body


def message(kind: bytes, body: bytes) -> bytes:
    """Return a frame: type, length, body."""
    return kind + struct.pack("!I", len(body) + 4) + body


def read(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Read one frame.

    Raises:
        Refused: if it is an ErrorResponse.
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
        raise Refused(fields.get(b"C", ""), fields.get(b"M", "refused"))
    return head[:1], body


def proof(password: str, first_bare: str, server_first: str) -> tuple[str, bytes]:
    """Return the client-final message and the server signature to expect.

    Raises:
        ValueError: if the server's message is not SCRAM, or does not continue our nonce.
    """
    fields = dict(part.partition("=")[::2] for part in server_first.split(","))
    nonce, rounds = fields.get("r", ""), fields.get("i", "")
    if not nonce.startswith(first_bare.split("r=", 1)[1]) or not rounds.isdigit():
        raise ValueError("the server does not speak SCRAM")
    salt = base64.b64decode(fields.get("s", ""))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(rounds))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    final = f"c=biws,r={nonce}"
    signed = f"{first_bare},{server_first},{final}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    answer = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    expected = hmac.digest(server_key, signed, "sha256")
    return f"{final},p={base64.b64encode(answer).decode()}", expected


def log_in(user: str, database: str, password: str, timeout: float, port: int = 5432) -> None:
    """Log in over TCP and leave again.

    Raises:
        Refused: the server does not admit the role with this password.
        OSError: no connection, or no answer in time.
        ValueError: the server wants something other than SCRAM-SHA-256, or cannot prove itself.
    """
    with (
        socket.create_connection(("127.0.0.1", port), timeout) as plain,
        plain.makefile("rb") as stream,
    ):
        plain.sendall(startup(user, database))
        _authenticate(plain, stream, password)
        plain.sendall(message(b"X", b""))


def ask(query: str, timeout: float, *, user: str = "postgres") -> str:
    """Return the first column of a query's first row as text, asked over the local socket.

    Raises:
        Refused: the server does not take this account of the machine for `user`, or the query.
        OSError: no connection, or no answer in time.
        ValueError: the server breaks off, asks for a password, or returns no row.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.settimeout(timeout)
        plain.connect(SOCKET)
        with plain.makefile("rb") as stream:
            plain.sendall(startup(user, "postgres"))
            _await_ready(stream)
            plain.sendall(message(b"Q", query.encode() + b"\0"))
            answer = _await_ready(stream)
            plain.sendall(message(b"X", b""))
    if answer is None:
        raise ValueError("the query returned nothing")
    return answer


def _await_ready(stream: BinaryIO) -> str | None:
    """Read until ReadyForQuery; return the first value of the first DataRow, if there is one."""
    value: str | None = None
    while True:
        kind, body = read(stream)
        if kind == b"Z":
            return value
        if kind == b"R" and _code(body) != _AUTH_OK:
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


def _authenticate(plain: socket.socket, stream: BinaryIO, password: str) -> None:
    kind, body = read(stream)
    if kind != b"R" or _code(body) != _AUTH_SASL or SCRAM not in body:
        raise ValueError("PostgreSQL asks for something other than SCRAM-SHA-256")
    bare = f"n=,r={base64.b64encode(os.urandom(18)).decode()}"
    first = b"n,," + bare.encode()
    plain.sendall(message(b"p", SCRAM + b"\0" + struct.pack("!I", len(first)) + first))
    server_first = _expect(stream, _AUTH_CONTINUE).decode()
    final, expected = proof(password, bare, server_first)
    plain.sendall(message(b"p", final.encode()))
    signature = _expect(stream, _AUTH_FINAL)
    if not hmac.compare_digest(signature, b"v=" + base64.b64encode(expected)):
        raise ValueError("the server cannot prove that it knows the password")
    _expect(stream, _AUTH_OK)


def _expect(stream: BinaryIO, wanted: int) -> bytes:
    kind, body = read(stream)
    if kind != b"R" or _code(body) != wanted:
        raise ValueError("PostgreSQL broke off the login")
    return body[4:]


def _code(body: bytes) -> int:
    return int(struct.unpack("!I", body[:4])[0])
