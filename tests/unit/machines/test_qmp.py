"""The QMP client: streams cut anywhere, monitors that misbehave, and the table of forwards."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import RaveError
from rave_cli.machines.qemu.qmp import (
    LONGEST_LINE,
    Qmp,
    QmpError,
    QmpEvent,
    Stream,
    check_socket_path,
)
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JSON = st.dictionaries(
    st.text(max_size=8), st.none() | st.integers() | st.text(max_size=20), max_size=4
)


@given(st.lists(JSON, max_size=8), st.data())
def test_objects_come_out_whole_wherever_the_stream_is_cut(
    messages: list[dict[str, Any]], data: st.DataObject
) -> None:
    raw = b"".join(json.dumps(message).encode() + b"\r\n" for message in messages)
    stream, found, at = Stream(), [], 0
    while at < len(raw):
        size = data.draw(st.integers(1, len(raw) - at))
        found += list(stream.feed(raw[at : at + size]))
        at += size
    assert found == messages


@given(st.binary(max_size=200))
def test_rubbish_is_refused_and_never_crashes(raw: bytes) -> None:
    try:
        found = list(Stream().feed(raw + b"\n"))
    except QmpError:
        return
    assert all(isinstance(message, dict) for message in found)


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(QmpError, match="line without end"):
        list(Stream().feed(b"x" * (LONGEST_LINE + 1)))


@pytest.fixture
def monitor(short_home: Path) -> Iterator[Callable[[Callable[[socket.socket], None]], Path]]:
    """Return a function that serves a script to one client and returns the socket's path."""
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "m.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)
    threads: list[threading.Thread] = []

    def serve(script: Callable[[socket.socket], None]) -> Path:
        def run() -> None:
            client, _ = server.accept()
            with client:
                script(client)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return path

    yield serve
    for thread in threads:
        thread.join(CEILING)
    server.close()


def line(client: socket.socket, message: object) -> None:
    client.sendall(json.dumps(message).encode() + b"\r\n")


def greet(client: socket.socket) -> None:
    line(client, {"QMP": {"version": {}, "capabilities": []}})
    assert b"qmp_capabilities" in client.recv(4096)
    line(client, {"return": {}})


def test_events_between_question_and_answer_are_kept_in_order(monitor: Any) -> None:
    def script(client: socket.socket) -> None:
        greet(client)
        client.recv(4096)
        line(client, {"event": "STOP"})
        line(client, {"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}})
        line(client, {"return": {"status": "running"}})
        client.recv(4096)

    with Qmp.connect(monitor(script), timeout=CEILING) as qmp:
        assert qmp.execute("query-status", timeout=CEILING) == {"status": "running"}
        assert qmp.events() == [
            QmpEvent("STOP", {}),
            QmpEvent("SHUTDOWN", {"reason": "guest-shutdown"}),
        ]
        assert qmp.events() == []


def test_a_refused_command_says_why(monitor: Any) -> None:
    def script(client: socket.socket) -> None:
        greet(client)
        client.recv(4096)
        line(client, {"error": {"class": "CommandNotFound", "desc": "no such thing"}})

    with (
        Qmp.connect(monitor(script), timeout=CEILING) as qmp,
        pytest.raises(QmpError, match="QEMU refused nonsense: no such thing"),
    ):
        qmp.execute("nonsense", timeout=CEILING)


def test_a_hang_up_is_noticed(monitor: Any) -> None:
    def script(client: socket.socket) -> None:
        greet(client)
        client.recv(4096)

    with (
        Qmp.connect(monitor(script), timeout=CEILING) as qmp,
        pytest.raises(QmpError, match=r"hung up|is gone"),
    ):
        qmp.execute("query-status", timeout=CEILING)


def test_a_mute_monitor_is_given_up(monitor: Any) -> None:
    release = threading.Event()
    path = monitor(lambda _client: release.wait(CEILING))
    with pytest.raises(QmpError, match=r"did not answer within 0\.05 s"):
        Qmp.connect(path, timeout=0.05)
    release.set()


def test_a_monitor_that_is_not_there_is_named() -> None:
    with pytest.raises(QmpError, match="no monitor at"):
        Qmp.connect(Path("/tmp/rave-no-such-monitor"), timeout=CEILING)


def test_a_path_too_long_for_a_socket_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="a socket's path may have 107") as caught:
        check_socket_path(tmp_path / ("x" * 120))
    assert "XDG_RUNTIME_DIR" in str(caught.value.hint)
