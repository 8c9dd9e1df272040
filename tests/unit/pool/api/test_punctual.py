"""Whoever does not ask in time is sent away; whoever does stays as long as they like."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from rave_cli.pool.api import punctual
from tests.unit.pool.api.test_streams import accepted, heard, owner
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import ServedApi

ASKS = b"GET /v1/health HTTP/1.1\r\nHost: pool\r\n\r\n"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punctual, "HEAD_WITHIN", 0.2)


@pytest.fixture
def connection(soon: None, api: ServedApi) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        found.settimeout(CEILING)
        found.connect(api.unix.removeprefix("unix:"))
        yield found


def test_a_connection_on_which_nobody_asks_is_closed(connection: socket.socket) -> None:
    assert connection.recv(1) == b""


def test_a_question_that_comes_a_letter_at_a_time_is_none(connection: socket.socket) -> None:
    connection.sendall(ASKS[:-3])
    assert connection.recv(1) == b""


def test_whoever_asked_and_asks_no_more_is_sent_away(connection: socket.socket) -> None:
    connection.sendall(ASKS)
    answer = b""
    while part := connection.recv(1 << 16):
        answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.usefixtures("soon")
def test_whoever_listens_may_stay(api: ServedApi) -> None:
    name = accepted()
    with owner(api, f"/jobs/{name}/follow") as stream:
        assert heard(stream)["job"]["name"] == name
        with pytest.raises(TimeoutError):
            stream.recv(timeout=1.0)
