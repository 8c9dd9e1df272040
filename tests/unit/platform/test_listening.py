"""The socket of a service: it sends at once, and outlives its process where systemd keeps it."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from rave_platform import listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = "127.0.0.1"


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd is told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield told


@contextmanager
def kept(systemd: socket.socket) -> Iterator[int]:
    """The descriptor that systemd was given to keep."""
    message, (fd,), _, _ = socket.recv_fds(systemd, 100, 1)
    assert message == b"FDSTORE=1\nFDNAME=http"
    try:
        yield fd
    finally:
        os.close(fd)


def hand(monkeypatch: pytest.MonkeyPatch, fd: int, pid: int) -> None:
    """Start the next process as systemd does: with what it kept, among others."""
    again = os.dup(fd)
    monkeypatch.setattr(listening, "FIRST_HANDED", again - 1)
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "other:http")
    monkeypatch.setenv("LISTEN_PID", str(pid))


def test_an_answer_does_not_wait_for_an_acknowledgement_of_its_head() -> None:
    with (
        listening.listen(HERE, 0) as found,
        socket.create_connection(found.getsockname()),
        found.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_who_comes_between_two_processes_waits(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening.listen(HERE, 0) as first:
        place = first.getsockname()
    with kept(systemd) as fd, socket.create_connection(place) as waiting:
        waiting.sendall(b"a webhook")
        hand(monkeypatch, fd, os.getpid())
        with listening.listen(*place) as second, second.accept()[0] as accepted:
            assert accepted.recv(100) == b"a webhook"
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not second.get_inheritable()
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_a_socket_of_another_place_is_given_up(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening.listen(HERE, 0) as first:
        place = first.getsockname()
    with kept(systemd) as fd:
        hand(monkeypatch, fd, os.getpid())
        with listening.listen(HERE, 0) as second:
            assert second.getsockname() != place
            assert systemd.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=http"
            with kept(systemd):
                pass


def test_what_another_process_was_handed_is_not_taken(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening.listen(HERE, 0) as first, kept(systemd) as fd:
        hand(monkeypatch, fd, os.getppid())
        assert listening.handed() is None
        os.close(listening.FIRST_HANDED + 1)
        with pytest.raises(OSError, match="in use"):
            listening.listen(*first.getsockname())
