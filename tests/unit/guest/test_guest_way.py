"""The way in that no ban closes, from the guest's side: who may pass, and whose bytes are whose."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from rave_guest import way
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator

WORD = b"6b1228606bf9e88a7e7ed606c7975002\n"


class Sshd:
    """Greets each connection with its number, and then says everything back."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.accepted: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.accepted.append(connection)
                connection.sendall(b"SSH-%d\n" % len(self.accepted))
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with suppress(OSError):
            while data := connection.recv(4096):
                connection.sendall(data)
            connection.close()


@pytest.fixture
def sshd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    server = Sshd()
    monkeypatch.setattr(way, "SSHD", server.listener.getsockname())
    monkeypatch.setattr(way, "AGAIN", 0.01)
    monkeypatch.setattr(way, "password", lambda: WORD)
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()
    for connection in server.accepted:
        connection.close()


@pytest.fixture
def rounds() -> list[bytes]:
    """What was left each time that a connection to sshd had ended."""
    return []


@pytest.fixture
def host(sshd: Sshd, rounds: list[bytes]) -> Iterator[socket.socket]:
    """The host's end of the port; the guest's is served in a thread until this one is closed."""
    here, there = socket.socketpair()
    there.setblocking(False)
    ended = threading.Event()

    def serve() -> None:
        said = b""
        port = way.GuestEnd(there.fileno())
        with suppress(OSError):
            while not ended.is_set():
                said = way.admit(port, said)
                rounds.append(said)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    here.settimeout(CEILING)
    yield here
    ended.set()
    here.close()
    # Whoever waits for the word would wait for ever.
    os.close(there.detach())
    thread.join(CEILING)


def receive(host: socket.socket, wanted: bytes) -> bytes:
    found = b""
    while not found.endswith(wanted):
        found += host.recv(100)
    return found


def test_whoever_says_the_word_gets_it_back_and_then_sshd(host: socket.socket) -> None:
    host.sendall(WORD)
    assert receive(host, b"SSH-1\n") == WORD + b"SSH-1\n"
    data = os.urandom(300_000)
    threading.Thread(target=host.sendall, args=(data,), daemon=True).start()
    found = b""
    while len(found) < len(data):
        found += host.recv(1 << 16)
    assert found == data


def test_without_the_word_nobody_gets_anywhere(host: socket.socket, sshd: Sshd) -> None:
    host.sendall(b"SSH-2.0-stranger\r\n" + b"0" * 32 + b"\n")
    time.sleep(0.2)
    assert sshd.accepted == []
    host.sendall(b"noise" + WORD)
    assert receive(host, b"SSH-1\n") == WORD + b"SSH-1\n"


def test_what_follows_the_word_at_once_is_not_lost(host: socket.socket) -> None:
    host.sendall(WORD + b"SSH-2.0-hasty\r\n")
    found = receive(host, b"hasty\r\n")
    assert found == WORD + b"SSH-1\nSSH-2.0-hasty\r\n"


def test_the_next_one_gets_a_connection_of_its_own(host: socket.socket, sshd: Sshd) -> None:
    host.sendall(WORD)
    receive(host, b"SSH-1\n")
    host.sendall(b"the first one's last" + WORD)
    assert receive(host, b"SSH-2\n").endswith(WORD + b"SSH-2\n")
    host.sendall(b"second")
    assert receive(host, b"second") == b"second"


def test_an_sshd_that_hangs_up_is_left_until_the_word_comes_again(
    host: socket.socket, sshd: Sshd, rounds: list[bytes]
) -> None:
    host.sendall(WORD)
    receive(host, b"SSH-1\n")
    sshd.accepted[0].shutdown(socket.SHUT_RDWR)
    until(lambda: len(rounds) == 1)
    host.sendall(b"to nobody")
    host.sendall(WORD)
    assert receive(host, b"SSH-2\n") == WORD + b"SSH-2\n"


def test_a_host_that_hangs_up_ends_the_connection_to_sshd(sshd: Sshd) -> None:
    here, there = socket.socketpair()
    there.setblocking(False)
    here.sendall(WORD)
    here.settimeout(CEILING)

    def leave() -> None:
        receive(here, b"SSH-1\n")
        here.close()

    threading.Thread(target=leave, daemon=True).start()
    assert way.admit(way.GuestEnd(there.fileno()), b"") == b""
    there.close()


def test_nobody_at_the_other_end_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port without a host is readable all the time; it was looked at three times a second."""
    here, there = socket.socketpair()
    there.setblocking(False)
    here.close()
    looks: list[float] = []
    port = way.GuestEnd(there.fileno())
    wait = port.wait

    def counted() -> None:
        looks.append(time.monotonic())
        if len(looks) > 3:
            raise OSError("enough")
        wait()

    monkeypatch.setattr(port, "wait", counted)
    monkeypatch.setattr(way, "AGAIN", 0.2)
    with pytest.raises(OSError, match="enough"):
        way.admit(port, b"")
    # The first look finds what happened before it; from then on only time passes.
    assert looks[-1] - looks[1] >= 0.35
    there.close()


def test_a_host_without_the_port_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rave_guest.report.PORTS", "/nonexistent")
    way.serve()
