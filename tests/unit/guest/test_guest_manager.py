"""The private D-Bus client: bytes of a call, and replies as PID 1 really sends them."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import manager
from tests.waiting import CEILING

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=0x7F), max_size=40)


def unit_reply(units: list[tuple[str, str]], job: int = 0, detail: str = "running") -> bytes:
    """Body of an a(ssssssouso) reply, built by the rules of the specification."""
    rows = b""
    for name, state in units:
        rows += bytes(-len(rows) % 8)
        for text in (name, "description", "loaded", state, detail, "", "/unit/path"):
            rows += bytes(-len(rows) % 4) + struct.pack("<I", len(text)) + text.encode() + b"\0"
        rows += bytes(-len(rows) % 4) + struct.pack("<I", job)
        for text in ("", "/"):
            rows += bytes(-len(rows) % 4) + struct.pack("<I", len(text)) + text.encode() + b"\0"
    return struct.pack("<I", len(rows)) + bytes(4) + rows


def message(kind: int, serial: int, body: bytes) -> bytes:
    """A reply (2) or error (3) to `serial`."""
    fields = bytes((5, 1)) + b"u\0" + struct.pack("<I", serial)
    fields += bytes(-len(fields) % 8) + bytes((8, 1)) + b"g\0" + b"\x0ca(ssssssouso)\0"
    head = struct.pack("<4B3I", ord("l"), kind, 0, 1, len(body), 9, len(fields)) + fields
    return head + bytes(-len(head) % 8) + body


class Pid1:
    """A server that authenticates a client and then sends prepared replies."""

    def __init__(self, path: Path, replies: list[bytes], greeting: bytes = b"OK abc\r\n") -> None:
        self.path = str(path / "private")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, args=(replies, greeting))
        self._thread.start()

    def _serve(self, replies: list[bytes], greeting: bytes) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(greeting)
            for reply in replies:
                self.received.append(connection.recv(65536))
                connection.sendall(reply)

    def close(self) -> None:
        self._thread.join(CEILING)
        self._listener.close()


def test_states_come_from_the_reply_to_our_call(tmp_path: Path) -> None:
    reply = unit_reply([("a.service", "active"), ("b.service", "failed")])
    late = message(2, 77, unit_reply([]))  # a reply to somebody else's call comes first
    pid1 = Pid1(tmp_path, [late + message(2, 1, reply)])
    client = manager.Manager(pid1.path)
    assert client.states(["a.service", "b.service"]) == {
        "a.service": "active",
        "b.service": "failed",
    }
    client.close()
    pid1.close()
    assert b"ListUnitsByNames" in pid1.received[0]
    assert b"a.service\0" in pid1.received[0]


def test_failed_units_are_sorted(tmp_path: Path) -> None:
    pid1 = Pid1(tmp_path, [message(2, 1, unit_reply([("z", "failed"), ("a", "failed")]))])
    client = manager.Manager(pid1.path)
    assert client.failed() == ["a", "z"]
    client.close()
    pid1.close()


def test_orders_are_given_at_once_and_each_is_answered(tmp_path: Path) -> None:
    """One reply at a time would have PID 1 run the first job before it hears of the second."""
    told = message(2, 1, b"") + message(2, 2, b"")
    pid1 = Pid1(tmp_path, [told, message(2, 3, unit_reply([("a.service", "active")]))])
    client = manager.Manager(pid1.path)
    client.order(("RestartUnit", "a.service"), ("StartUnit", "b.service"))
    assert client.states(["a.service"]) == {"a.service": "active"}
    client.close()
    pid1.close()
    for word in (b"RestartUnit", b"a.service", b"StartUnit", b"b.service"):
        assert word in pid1.received[0]


def test_one_order_that_is_refused_is_an_error(tmp_path: Path) -> None:
    pid1 = Pid1(tmp_path, [message(2, 1, b"") + message(3, 2, b"")])
    client = manager.Manager(pid1.path)
    with pytest.raises(manager.ManagerError, match="PID 1 refused StartUnit"):
        client.order(("RestartUnit", "a.service"), ("StartUnit", "b.service"))
    client.close()
    pid1.close()


def test_an_error_reply_is_an_error(tmp_path: Path) -> None:
    pid1 = Pid1(tmp_path, [message(3, 1, b"")])
    client = manager.Manager(pid1.path)
    with pytest.raises(manager.ManagerError, match="ListUnitsByNames"):
        client.states(["a"])
    client.close()
    pid1.close()


@pytest.mark.parametrize("greeting", [b"REJECTED EXTERNAL\r\n", b""])
def test_a_refusal_is_an_error(tmp_path: Path, greeting: bytes) -> None:
    pid1 = Pid1(tmp_path, [], greeting)
    with pytest.raises(manager.ManagerError, match="PID 1"):
        manager.Manager(pid1.path).states([])
    pid1.close()


def test_a_change_is_told_and_read_past(tmp_path: Path) -> None:
    reply, signal = unit_reply([("a", "active")]), message(4, 0, b"")
    pid1 = Pid1(tmp_path, [message(2, 1, reply) + signal, message(2, 2, reply)])
    client = manager.Manager(pid1.path)
    assert client.states(["a"]) == {"a": "active"}
    assert client.told(CEILING)
    assert client.states(["a"]) == {"a": "active"}
    client.close()
    pid1.close()


def test_a_pid_1_that_hangs_up_is_a_change(tmp_path: Path) -> None:
    pid1 = Pid1(tmp_path, [message(2, 1, unit_reply([]))])
    client = manager.Manager(pid1.path)
    client.states([])
    pid1.close()
    assert client.told(CEILING)
    client.close()


def test_a_connection_that_was_closed_is_made_anew(tmp_path: Path) -> None:
    client = manager.Manager(str(tmp_path / "private"))
    for name in ("a", "b"):
        pid1 = Pid1(tmp_path, [message(2, 1 if name == "a" else 2, unit_reply([(name, "active")]))])
        assert client.states([name]) == {name: "active"}
        client.close()
        pid1.close()
        (tmp_path / "private").unlink()


def test_a_connection_that_ends_is_an_error(tmp_path: Path) -> None:
    pid1 = Pid1(tmp_path, [message(2, 1, unit_reply([]))[:20]])
    client = manager.Manager(pid1.path)
    with pytest.raises(manager.ManagerError, match="closed"):
        client.states([])
    client.close()
    pid1.close()


def got(serial: int, kind: bytes, value: bytes, size: int) -> bytes:
    """The reply to a Get, of a value that begins at a multiple of `size`."""
    head = bytes((len(kind),)) + kind + b"\0"
    return message(2, serial, head + bytes(-len(head) % size) + value)


def texts(words: list[str]) -> bytes:
    """An array of strings."""
    rows = b""
    for word in words:
        text = word.encode()
        rows += bytes(-len(rows) % 4) + struct.pack("<I", len(text)) + text + b"\0"
    return struct.pack("<I", len(rows)) + rows


def test_properties_are_asked_at_once_and_what_a_unit_does_not_have_is_left_out(
    tmp_path: Path,
) -> None:
    replies = [
        got(1, b"s", struct.pack("<I", 6) + b"active\0", 4),
        message(3, 2, b""),
        got(3, b"t", struct.pack("<Q", 2**64 - 1), 8),
        got(4, b"t", struct.pack("<Q", 5 << 20), 8),
        got(5, b"u", struct.pack("<I", 7), 4),
        got(6, b"as", texts(["LANG=C.UTF-8", "A=b"]), 4),
    ]
    asked = [
        ("a-1.service", "ActiveState"), ("b.target", "MemoryMax"), ("c.service", "MemoryMax"),
        ("c.service", "MemoryCurrent"), ("", "NJobs"), ("", "Environment"),
    ]  # fmt: skip
    pid1 = Pid1(tmp_path, [b"".join(replies)])
    client = manager.Manager(pid1.path)
    found = client.properties(asked)
    client.close()
    pid1.close()
    assert [found.get(key) for key in asked] == [
        "active", None, "infinity", str(5 << 20), "7", "LANG=C.UTF-8\0A=b\0",
    ]  # fmt: skip
    for word in (
        b"/org/freedesktop/systemd1/unit/a_2d1_2eservice\0", b"org.freedesktop.systemd1.Unit\0",
        b"/org/freedesktop/systemd1/unit/b_2etarget\0", b"org.freedesktop.systemd1.Target\0",
        b"org.freedesktop.systemd1.Service\0", b"org.freedesktop.systemd1.Manager\0",
    ):  # fmt: skip
        assert word in pid1.received[0]


def test_a_value_of_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    pid1 = Pid1(tmp_path, [got(1, b"d", bytes(8), 8)])
    client = manager.Manager(pid1.path)
    with pytest.raises(manager.ManagerError, match="kind"):
        client.properties([("", "Odd")])
    client.close()
    pid1.close()


@given(st.lists(TEXT.filter(bool), max_size=6))
def test_any_list_of_words_is_read_back(words: list[str]) -> None:
    body = b"\2as\0" + texts(words)
    assert manager.variant(body) == "".join(f"{word}\0" for word in words)


@pytest.mark.parametrize(
    ("state", "seen"),
    [("inactive", "queued"), ("failed", "queued"), ("active", "active"), ("activating",) * 2],
)
def test_a_unit_that_is_down_with_a_job_is_queued(state: str, seen: str) -> None:
    assert manager.units(unit_reply([("a", state)], job=7)) == {"a": seen}
    assert manager.units(unit_reply([("a", state)])) == {"a": state}


@pytest.mark.parametrize("detail", ["auto-restart", "auto-restart-queued"])
def test_a_unit_that_has_failed_and_will_be_tried_again_is_restarting(detail: str) -> None:
    reply = unit_reply([("a", "activating")], detail=detail)
    assert manager.units(reply) == {"a": "restarting"}


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6, unique_by=lambda unit: unit[0]))
def test_any_list_of_units_is_read_back(units: list[tuple[str, str]]) -> None:
    assert manager.units(unit_reply(units)) == dict(units)


@given(st.lists(TEXT, max_size=6), st.integers(1, 2**32 - 1))
def test_a_call_is_well_formed(words: list[str], serial: int) -> None:
    data = manager.call("Member", words, serial)
    endian, kind, _, version, length, number, fields = struct.unpack_from("<4B3I", data)
    assert (endian, kind, version, number) == (ord("l"), 1, 1, serial)
    body = data[16 + -(-fields // 8) * 8 :]
    assert len(body) == length
    at, found = 4, []
    while at < len(body):
        at += -at % 4
        (size,) = struct.unpack_from("<I", body, at)
        found.append(body[at + 4 : at + 4 + size].decode())
        assert body[at + 4 + size] == 0
        at += 5 + size
    assert found == words
