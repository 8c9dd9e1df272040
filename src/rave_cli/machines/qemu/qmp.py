"""A small synchronous client for the QEMU machine protocol, with a deadline on every wait.

Why not `qemu.qmp`: docs/adr/0006-qmp-client.md. The protocol: greeting, `qmp_capabilities`, then
one JSON object per line; events arrive at any time and are kept in order.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A line longer than this is not QMP; query-qmp-schema, the longest answer, is under 1 MB.
LONGEST_LINE = 4 << 20

# sun_path of unix(7) holds 108 bytes with the final NUL.
LONGEST_SOCKET_PATH = 107


# RunStates in which QEMU does not run the guest any more: its disk failed, or the processor did.
IO_ERROR, INTERNAL_ERROR = "io-error", "internal-error"
STILL = (IO_ERROR, INTERNAL_ERROR)


class QmpError(RaveError):
    """The monitor did not do what it was asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="rave vm list", exit_code=ExitCode.NOT_READY)


class MonitorGoneError(QmpError):
    """Nobody listens where the monitor was: its socket is gone, or QEMU is."""


@dataclass(frozen=True)
class QmpEvent:
    """Something QEMU reported on its own."""

    name: str
    data: dict[str, Any]


class Stream:
    """Turns received bytes into JSON objects. A partial line waits for its rest."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield every object that is complete now.

        Raises:
            QmpError: for a line that is no JSON object, or too long to be one.
        """
        self._rest += data
        while b"\n" in self._rest:
            line, self._rest = self._rest.split(b"\n", 1)
            if line.strip():
                yield _object(line)
        if len(self._rest) > LONGEST_LINE:
            raise QmpError("the monitor sent a line without end")


def _object(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise QmpError(f"the monitor sent something that is not QMP: {line[:80]!r}")
    return message


class Qmp:
    """A connection to one monitor. Use as a context manager; seconds count per call."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._stream = Stream()
        self._answers: list[dict[str, Any]] = []
        self._events: list[QmpEvent] = []
        self.closed = False

    @classmethod
    def connect(cls, path: Path, *, timeout: float) -> Qmp:
        """Connect, hear the greeting and leave negotiation mode.

        Raises:
            MonitorGoneError: if nobody listens.
            QmpError: if nobody greets in time (another client may be served).
        """
        check_socket_path(path)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        client = cls(connection)
        try:
            connection.settimeout(timeout)
            connection.connect(os.fspath(path))
            client._answer("QMP", timeout)
            client.execute("qmp_capabilities", timeout=timeout)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            client.close()
            raise MonitorGoneError(f"no monitor at {path}: {error.strerror}") from error
        except OSError as error:
            client.close()
            raise QmpError(f"no monitor at {path}: {error.strerror or error}") from error
        except BaseException:
            client.close()
            raise
        return client

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
        self.closed = True

    def fileno(self) -> int:
        """The socket's descriptor, to wait on."""
        return self._socket.fileno()

    def execute(self, command: str, *, timeout: float, **arguments: object) -> Any:  # noqa: ANN401 - as the QMP schema says
        """Run a command and return what it returns; events that arrive meanwhile are kept.

        Raises:
            QmpError: if QEMU refuses, hangs up, or does not answer within `timeout` seconds.
        """
        return self._asked(command, arguments, timeout, [])

    def hand_over(self, fd: int, name: str, *, timeout: float) -> None:
        """Give QEMU a descriptor, by a name that later commands call it by.

        Raises:
            QmpError: as `execute`.
        """
        self._asked("getfd", {"fdname": name}, timeout, [fd])

    def _asked(
        self, command: str, arguments: dict[str, object], timeout: float, fds: list[int]
    ) -> Any:  # noqa: ANN401 - as the QMP schema says
        request: dict[str, object] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        line = json.dumps(request).encode() + b"\n"
        try:
            self._socket.settimeout(timeout)
            # The descriptors come with the first bytes.
            sent = socket.send_fds(self._socket, [line], fds) if fds else 0
            self._socket.sendall(line[sent:])
        except OSError as error:
            raise QmpError(f"the monitor is gone: {error.strerror or error}") from error
        answer = self._answer("return", timeout)
        if "error" in answer:
            raise QmpError(f"QEMU refused {command}: {answer['error'].get('desc', '?')}")
        return answer["return"]

    def human(self, command: str, *, timeout: float) -> str:
        """Run a command of the human monitor and return its text."""
        text = self.execute("human-monitor-command", timeout=timeout, **{"command-line": command})
        return str(text)

    def events(self) -> list[QmpEvent]:
        """Return the events since the last call, without waiting. `closed` tells of a hang-up.

        Raises:
            QmpError: if what arrived is not QMP.
        """
        with suppress(TimeoutError, BlockingIOError):
            while not self.closed:
                self._receive(0)
        found, self._events = self._events, []
        return found

    def _answer(self, key: str, timeout: float) -> dict[str, Any]:
        """Wait for a message that has `key`, or for an error."""
        deadline = time.monotonic() + timeout
        while True:
            for index, message in enumerate(self._answers):
                if key in message or "error" in message:
                    return self._answers.pop(index)
            if self.closed:
                raise QmpError("the monitor hung up")
            # At least 1 ms: a timeout of 0 would mean non-blocking to the socket.
            left = max(0.001, deadline - time.monotonic())
            try:
                self._receive(left)
            except TimeoutError:
                raise QmpError(f"the monitor did not answer within {timeout:g} s") from None

    def _receive(self, timeout: float) -> None:
        """Read once. Raises TimeoutError or BlockingIOError if nothing is there in time."""
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self.close()
        for message in self._stream.feed(data):
            if "event" in message:
                self._events.append(QmpEvent(str(message["event"]), message.get("data") or {}))
            else:
                self._answers.append(message)


def check_socket_path(path: Path) -> None:
    """Refuse a socket path that the kernel would refuse with a less helpful message.

    Raises:
        RaveError: HOST if it is too long.
    """
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET_PATH:
        raise RaveError(
            f"{path} is {length} bytes long; a socket's path may have {LONGEST_SOCKET_PATH}",
            hint="use a shorter machine name, or set XDG_RUNTIME_DIR to a shorter directory",
            exit_code=ExitCode.HOST,
        )
