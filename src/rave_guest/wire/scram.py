"""How PostgreSQL checks a password over TCP: SCRAM-SHA-256 (RFC 5802, RFC 7677)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import struct

from rave_guest.wire.postgres import AUTH_OK, code, message, read, startup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

SCRAM = b"SCRAM-SHA-256"
_AUTH_SASL, _AUTH_CONTINUE, _AUTH_FINAL = 10, 11, 12


def proof(password: str | None, first_bare: str, server_first: str) -> tuple[str, bytes]:
    """Return the client-final message and the server signature to expect.

    Without a password the proof is of a random key, as whoever guesses has one: making it of a word
    takes an emulated guest a tenth of a second, and the server sees no difference.

    Raises:
        ValueError: if the server's message is not SCRAM, or does not continue our nonce.
    """
    fields = dict(part.partition("=")[::2] for part in server_first.split(","))
    nonce, rounds = fields.get("r", ""), fields.get("i", "")
    if not nonce.startswith(first_bare.split("r=", 1)[1]) or not rounds.isdigit():
        raise ValueError("the server does not speak SCRAM")
    salt = base64.b64decode(fields.get("s", ""))
    if password is None:
        salted = os.urandom(32)
    else:
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(rounds))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    final = f"c=biws,r={nonce}"
    signed = f"{first_bare},{server_first},{final}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    answer = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    expected = hmac.digest(server_key, signed, "sha256")
    return f"{final},p={base64.b64encode(answer).decode()}", expected


def log_in(
    user: str, database: str, password: str | None, timeout: float, port: int = 5432
) -> None:
    """Log in over TCP and leave again; without a password as somebody who guesses.

    Raises:
        ServerError: the server does not admit the role with this password.
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


def _authenticate(plain: socket.socket, stream: BinaryIO, password: str | None) -> None:
    kind, body = read(stream)
    if kind != b"R" or code(body) != _AUTH_SASL or SCRAM not in body:
        raise ValueError("PostgreSQL asks for something other than SCRAM-SHA-256")
    bare = f"n=,r={base64.b64encode(os.urandom(18)).decode()}"
    first = b"n,," + bare.encode()
    plain.sendall(message(b"p", SCRAM + b"\0" + struct.pack("!I", len(first)) + first))
    server_first = _expect(stream, _AUTH_CONTINUE).decode()
    final, expected = proof(password, bare, server_first)
    plain.sendall(message(b"p", final.encode()))
    signature = _expect(stream, _AUTH_FINAL)
    known = password is not None
    if known and not hmac.compare_digest(signature, b"v=" + base64.b64encode(expected)):
        raise ValueError("the server cannot prove that it knows the password")
    _expect(stream, AUTH_OK)


def _expect(stream: BinaryIO, wanted: int) -> bytes:
    kind, body = read(stream)
    if kind != b"R" or code(body) != wanted:
        raise ValueError("PostgreSQL broke off the login")
    return body[4:]
