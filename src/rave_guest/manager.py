"""Asks PID 1 about units over its private D-Bus socket.

`systemctl` takes a tenth of a second to start under emulation, and the guest has no D-Bus daemon;
the calls needed here are few bytes. Wire format: the D-Bus specification (message protocol);
ListUnitsByNames, ListUnitsFiltered, StartUnit and its like, and properties:
org.freedesktop.systemd1(5). How a unit's name becomes a path: sd_bus_path_encode(3).
"""

from __future__ import annotations

import select
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SOCKET = "/run/systemd/private"
TIMEOUT = 10.0  # seconds; PID 1 answers in milliseconds unless it is reloading

METHOD_RETURN = 2
HEADER = struct.Struct("<4B3I")
ROOT = "/org/freedesktop/systemd1"
NAME = "org.freedesktop.systemd1"
PROPERTIES = "org.freedesktop.DBus.Properties"
# What units of every kind have; the rest belongs to a kind of its own.
OF_UNITS = frozenset(("ActiveEnterTimestampMonotonic", "ActiveState", "LoadState", "SubState"))
UNLIMITED = 2**64 - 1


class ManagerError(Exception):
    """PID 1 did not answer as the specification says."""


class Manager:
    """A connection to PID 1, made when it is needed; needs root.

    As long as it is open PID 1 tells every change of a unit by itself (bus_foreach_bus in its
    source), with all properties of it. Whoever only asks now and then closes it in between.
    """

    def __init__(self, path: str = SOCKET) -> None:
        """Do nothing yet."""
        self._path = path
        self._open: socket.socket | None = None
        self._serial = 0

    def close(self) -> None:
        """Give the connection up, until the next question."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _socket(self) -> socket.socket:
        """The connection.

        Raises:
            OSError: if PID 1 does not listen.
            ManagerError: if it refuses.
        """
        if self._open is None:
            self._open = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._open.settimeout(TIMEOUT)
                self._open.connect(self._path)
                self._authenticate()
            except BaseException:
                self.close()
                raise
        return self._open

    def _authenticate(self) -> None:
        # Our uid (0) in hexadecimal digits of its decimal text.
        self._socket.sendall(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n")
        reply = b""
        while not reply.endswith(b"\r\n"):
            reply += self._exactly(1)
        if not reply.startswith(b"OK "):
            raise ManagerError(f"PID 1 refused: {reply!r}")

    def states(self, names: list[str]) -> dict[str, str]:
        """State (`active`, `activating`, `failed`, `queued`, `restarting`, ...) of each unit."""
        return self._units("ListUnitsByNames", names)

    def told(self, wait: float) -> bool:
        """Wait at most `wait` seconds for PID 1 to tell of a change; return whether it did.

        What it says is not read: whoever then asks for the states reads past it.
        """
        return bool(select.select([self._socket], [], [], wait)[0])

    def failed(self) -> list[str]:
        """Names of the failed units, sorted."""
        return sorted(self._units("ListUnitsFiltered", ["failed"]))

    def order(self, *orders: tuple[str, str]) -> None:
        """Give orders, each a method (`StartUnit`, `StopUnit`, `RestartUnit`) and a unit; their
        jobs are queued.

        They are given at once: PID 1 takes all that it has been told before it runs a job.

        Raises:
            OSError, ManagerError: PID 1 does not answer, or refuses one.
        """
        first = self._serial + 1
        self._serial += len(orders)
        self._socket.sendall(
            b"".join(
                call(member, [unit, "replace"], serial, array=False)
                for serial, (member, unit) in enumerate(orders, first)
            )
        )
        for serial, (member, _) in enumerate(orders, first):
            self._answer(member, serial)

    def properties(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Properties as text, by unit (empty: PID 1 itself) and name, without those that a unit of
        its kind does not have. A number that says that there is no limit is `infinity`; of a list
        each word ends with NUL.

        All are asked at once.

        Raises:
            OSError, ManagerError: PID 1 does not answer.
        """
        asked = list(wanted)
        first = self._serial + 1
        self._serial += len(asked)
        self._socket.sendall(
            b"".join(
                call("Get", [_interface(unit, name), name], serial, array=False,
                     path=_path(unit), interface=PROPERTIES)
                for serial, (unit, name) in enumerate(asked, first)
            )
        )  # fmt: skip
        found = {}
        for serial, key in enumerate(asked, first):
            kind, body = self._reply(serial)
            if kind == METHOD_RETURN:
                found[key] = variant(body)
        return found

    def _units(self, member: str, words: list[str]) -> dict[str, str]:
        return units(self._ask(member, call(member, words, self._serial + 1)))

    def _ask(self, member: str, request: bytes) -> bytes:
        self._serial += 1
        self._socket.sendall(request)
        return self._answer(member, self._serial)

    def _answer(self, member: str, wanted: int) -> bytes:
        kind, body = self._reply(wanted)
        if kind != METHOD_RETURN:
            raise ManagerError(f"PID 1 refused {member}")
        return body

    def _reply(self, wanted: int) -> tuple[int, bytes]:
        while True:
            kind, serial, body = self._receive()
            if serial == wanted:
                return kind, body

    def _receive(self) -> tuple[int, int, bytes]:
        head = self._exactly(HEADER.size)
        _, kind, _, _, length, _, fields = HEADER.unpack(head)
        padded = self._exactly(-(-fields // 8) * 8)
        return kind, reply_serial(padded[:fields]), self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ManagerError("PID 1 closed the connection")
            data += piece
        return data


def call(
    member: str, words: list[str], serial: int, *, array: bool = True, path: str = ROOT,
    interface: str = f"{NAME}.Manager",
) -> bytes:  # fmt: skip
    """A method call, with strings as its arguments or one array of them."""
    body = b""
    for word in words:
        body = _align(body, 4) + _string(word)
    signature = b"as" if array else b"s" * len(words)
    if array:
        body = struct.pack("<I", len(body)) + body
    fields = b""
    for code, kind, value in (
        (1, b"o", _string(path)),
        (2, b"s", _string(interface)),
        (3, b"s", _string(member)),
        (8, b"g", bytes((len(signature),)) + signature + b"\0"),
    ):
        fields = _align(fields, 8) + bytes((code, 1)) + kind + b"\0" + value
    head = HEADER.pack(ord("l"), 1, 0, 1, len(body), serial, len(fields))
    return _align(head + fields, 8) + body


def reply_serial(fields: bytes) -> int:
    """The serial number that a reply answers, from its header fields; 0 for a signal."""
    at = 0
    while at < len(fields):
        at = -(-at // 8) * 8
        code, signature = fields[at], fields[at + 2 : at + 3]
        at += 4
        if signature == b"g":
            at += 2 + fields[at]
            continue
        at = -(-at // 4) * 4
        (value,) = struct.unpack_from("<I", fields, at)
        if code == 5:
            return int(value)
        at += 4 if signature == b"u" else 5 + value
    return 0


def units(body: bytes) -> dict[str, str]:
    """Name and state of each element of an `a(ssssssouso)` reply.

    The state is ActiveState, but `queued` for a unit that is down and has a job which may start it,
    and `restarting` for one that has failed and is going to be started again.
    """
    (length,) = struct.unpack_from("<I", body)
    at, end = 8, 8 + length
    found = {}
    while at < end:
        at = -(-at // 8) * 8
        texts = []
        for _ in range(7):
            text, at = _text(body, at)
            texts.append(text)
        at = -(-at // 4) * 4
        (job,) = struct.unpack_from("<I", body, at)
        at += 4
        for _ in range(2):
            _, at = _text(body, at)
        found[texts[0]] = _state(texts[3], texts[4], queued=bool(job))
    return found


def variant(body: bytes) -> str:
    """The value in the reply of a Get, as text; see `Manager.properties`.

    Raises:
        ManagerError: it is of a kind that nobody asks for.
    """
    kind, at = body[1 : 1 + body[0]], 2 + body[0]
    if kind == b"s":
        return _text(body, at)[0]
    if kind == b"u":
        return str(struct.unpack_from("<I", body, -(-at // 4) * 4)[0])
    if kind == b"t":
        (number,) = struct.unpack_from("<Q", body, -(-at // 8) * 8)
        return "infinity" if number == UNLIMITED else str(number)
    if kind != b"as":
        raise ManagerError(f"PID 1 tells a value of kind {kind!r}")
    at = -(-at // 4) * 4
    (length,) = struct.unpack_from("<I", body, at)
    at += 4
    end, words = at + length, ""
    while at < end:
        word, at = _text(body, at)
        words += f"{word}\0"
    return words


def _path(unit: str) -> str:
    if not unit:
        return ROOT
    escaped = (
        chr(byte) if chr(byte).isalnum() and byte < 128 and (at or not chr(byte).isdigit())
        else f"_{byte:02x}"
        for at, byte in enumerate(unit.encode())
    )  # fmt: skip
    return f"{ROOT}/unit/{''.join(escaped)}"


def _interface(unit: str, name: str) -> str:
    if not unit:
        return f"{NAME}.Manager"
    return f"{NAME}.{'Unit' if name in OF_UNITS else unit.rpartition('.')[2].capitalize()}"


def _state(active: str, detail: str, *, queued: bool) -> str:
    if queued and active in {"inactive", "failed"}:
        return "queued"
    return "restarting" if detail.startswith("auto-restart") else active


def _text(body: bytes, at: int) -> tuple[str, int]:
    at = -(-at // 4) * 4
    (length,) = struct.unpack_from("<I", body, at)
    return body[at + 4 : at + 4 + length].decode(), at + 5 + length


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0"


def _align(data: bytes, size: int) -> bytes:
    return data + bytes(-len(data) % size)
