"""The probe's protocol clients, against byte streams and small servers of our own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import pickle
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest.wire import fail2ban, http, nats, postgres, redis, scram
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection on a port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(CEILING)


# --- HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9090/a/b?q=1", (False, "127.0.0.1", 9090, "/a/b?q=1")),
        ("https://rave", (True, "rave", 443, "/")),
        ("http://rave/", (False, "rave", 80, "/")),
    ],
)
def test_urls(url: str, expected: tuple[object, ...]) -> None:
    assert tuple(http.split(url)) == expected


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://", "127.0.0.1:80"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        http.split(url)


def test_a_get() -> None:
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        asked.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhello ")
        connection.sendall(b"world")

    with server(serve) as port:
        answer = http.get(f"http://127.0.0.1:{port}/x", 5)
    assert (answer.status, answer.text, answer.certificate) == (200, "hello world", None)
    assert asked[0].startswith(b"GET /x HTTP/1.0\r\nHost: 127.0.0.1:")


def test_a_server_that_never_ends_is_left_in_time() -> None:
    stop = threading.Event()

    def serve(_: socket.socket) -> None:
        stop.wait(CEILING)

    with server(serve) as port:
        with pytest.raises(TimeoutError):
            http.get(f"http://127.0.0.1:{port}/", 0.2)
        stop.set()


@given(st.binary())
def test_any_bytes_are_http_or_refused(raw: bytes) -> None:
    try:
        status, body = http.parse(raw)
    except ValueError:
        return
    assert isinstance(status, int)
    assert raw.endswith(body)


# --- Redis ---------------------------------------------------------------------------------------


def test_a_command_on_the_wire() -> None:
    assert redis.encode("SET", "k", b"\r\n") == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        (b"+OK\r\n", "OK"),
        (b":42\r\n", 42),
        (b"$3\r\na\r\n\r\n", b"a\r\n"),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*2\r\n$1\r\na\r\n:1\r\n", [b"a", 1]),
    ],
)
def test_replies(raw: bytes, reply: object) -> None:
    assert redis.read(io.BytesIO(raw)) == reply


def test_an_error_reply_is_raised() -> None:
    with pytest.raises(redis.RedisError, match="NOAUTH"):
        redis.read(io.BytesIO(b"-NOAUTH Authentication required.\r\n"))


@given(st.recursive(st.one_of(st.binary(), st.integers()), st.lists, max_leaves=8))
def test_replies_come_back_as_they_were(value: object) -> None:
    def spell(item: object) -> bytes:
        if isinstance(item, bytes):
            return b"$%d\r\n%s\r\n" % (len(item), item)
        if isinstance(item, int):
            return b":%d\r\n" % item
        assert isinstance(item, list)
        return b"*%d\r\n" % len(item) + b"".join(map(spell, item))

    assert redis.read(io.BytesIO(spell(value))) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_a_reply_or_refused(raw: bytes) -> None:
    with suppress(ValueError, redis.RedisError):
        redis.read(io.BytesIO(raw))


# --- NATS ----------------------------------------------------------------------------------------


def test_nats_lines() -> None:
    stream = io.BytesIO(b"PING\r\nMSG _INBOX.x 1 5\r\nhello\r\n-ERR 'No'\r\n")
    assert nats.read(stream) == ("PING", "", b"")
    assert nats.read(stream) == ("MSG", "_INBOX.x 1 5", b"hello")
    assert nats.read(stream) == ("-ERR", "'No'", b"")
    with pytest.raises(ValueError, match="broke off"):
        nats.read(stream)


def test_a_refused_login() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b'INFO {"auth_required":true}\r\n')
        connection.recv(4096)
        connection.sendall(b"-ERR 'Authorization Violation'\r\n")

    with server(serve) as port, pytest.raises(nats.NatsError, match="Authorization Violation"):
        nats.Nats(5, user="rave", password="wrong", port=port)


def test_a_jetstream_call_and_its_error() -> None:
    def serve(connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        connection.sendall(b"INFO {}\r\n")
        assert stream.readline().startswith(b"CONNECT ")
        stream.readline()
        connection.sendall(b"PING\r\nPONG\r\n")
        lines = [stream.readline() for _ in range(5)]
        assert lines[0].startswith(b"PONG") or lines[0].startswith(b"SUB")
        inbox = next(line for line in lines if line.startswith(b"SUB")).split()[1]
        body = b'{"error":{"description":"stream not found"}}'
        connection.sendall(b"MSG %s 1 %d\r\n%s\r\n" % (inbox, len(body), body))

    with (
        server(serve) as port,
        nats.Nats(5, user="rave", password="x", port=port) as client,
        pytest.raises(nats.NatsError, match="stream not found"),
    ):
        client.jetstream("STREAM.INFO.X")


# --- PostgreSQL ----------------------------------------------------------------------------------


def test_scram_against_the_vector_of_rfc_7677() -> None:
    first = "n=user,r=rOprNGfwEbeRWgbNEkqO"
    server_first = (
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final, signature = scram.proof("pencil", first, server_first)
    assert final.endswith("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize(
    "server_first", ["", "r=other,s=AAAA,i=4096", "r=mine-x,s=AAAA,i=many", "e=other-error"]
)
def test_a_server_that_does_not_speak_scram_is_refused(server_first: str) -> None:
    with pytest.raises(ValueError, match="SCRAM"):
        scram.proof("x", "n=,r=mine-", server_first)


def frame(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


class Scram:
    """A server that admits one password."""

    def __init__(self, password: str, *, honest: bool = True) -> None:
        self.password, self.honest = password, honest

    def __call__(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        size = struct.unpack("!I", stream.read(4))[0]
        stream.read(size - 4)
        connection.sendall(frame(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        _, body = postgres.read(stream)
        bare = body.split(b"n,,", 1)[1].decode()
        first = f"r={bare.split('r=')[1]}server,s={base64.b64encode(b'salt').decode()},i=1"
        connection.sendall(frame(b"R", struct.pack("!I", 11) + first.encode()))
        _, body = postgres.read(stream)
        final, signature = scram.proof(self.password, bare, first)
        if body.decode() != final:
            connection.sendall(frame(b"E", b"SFATAL\0C28P01\0Mpassword authentication failed\0\0"))
            return
        if not self.honest:
            signature = hmac.digest(b"no", b"idea", hashlib.sha256)
        proof = b"v=" + base64.b64encode(signature)
        connection.sendall(frame(b"R", struct.pack("!I", 12) + proof))
        connection.sendall(frame(b"R", struct.pack("!I", 0)))
        stream.read(5)


def test_the_right_password_is_admitted() -> None:
    with server(Scram("secret")) as port:
        scram.log_in("role", "db", "secret", 5, port)


def test_a_wrong_password_is_refused_with_the_server_s_code() -> None:
    with server(Scram("secret")) as port, pytest.raises(postgres.ServerError) as caught:
        scram.log_in("role", "db", "wrong", 5, port)
    assert caught.value.code == "28P01"


def test_whoever_guesses_is_refused_and_learns_where_everybody_is_admitted() -> None:
    with server(Scram("secret")) as port, pytest.raises(postgres.ServerError) as caught:
        scram.log_in("role", "db", None, 5, port)
    assert caught.value.code == "28P01"

    def everybody(connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        stream.read(struct.unpack("!I", stream.read(4))[0] - 4)
        connection.sendall(frame(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        bare = postgres.read(stream)[1].split(b"n,,", 1)[1].decode()
        first = f"r={bare.split('r=')[1]}server,s=AAAA,i=1"
        connection.sendall(frame(b"R", struct.pack("!I", 11) + first.encode()))
        postgres.read(stream)
        connection.sendall(frame(b"R", struct.pack("!I", 12) + b"v=any"))
        connection.sendall(frame(b"R", struct.pack("!I", 0)))
        stream.read(5)

    with server(everybody) as port:
        scram.log_in("role", "db", None, 5, port)


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    with server(Scram("secret", honest=False)) as port, pytest.raises(ValueError, match="prove"):
        scram.log_in("role", "db", "secret", 5, port)


def test_a_server_that_asks_for_no_scram_is_refused() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(frame(b"R", struct.pack("!I", 3)))

    with server(serve) as port, pytest.raises(ValueError, match="other than SCRAM"):
        scram.log_in("role", "db", "secret", 5, port)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_the_first_column_comes_back(text: str) -> None:
    data = text.encode()
    row = struct.pack("!hi", 2, len(data)) + data + struct.pack("!i", -1)
    assert postgres.first_column(row) == text


@given(st.binary(max_size=40))
def test_any_row_is_read_or_refused(row: bytes) -> None:
    with suppress(ValueError):
        postgres.first_column(row)


# --- fail2ban ------------------------------------------------------------------------------------


def test_fail2ban_answers() -> None:
    assert fail2ban.parse(pickle.dumps((0, 3))) == 3
    assert fail2ban.parse(pickle.dumps([0, ["192.0.2.1"]])) == ["192.0.2.1"]


def test_a_refusal_of_fail2ban_is_raised() -> None:
    with pytest.raises(RuntimeError, match="refuses: no such jail"):
        fail2ban.parse(pickle.dumps((1, "no such jail")))


def test_what_could_run_is_never_loaded() -> None:
    with pytest.raises(RuntimeError, match="refuses"):
        fail2ban.parse(pickle.dumps((0, io.StringIO)))
