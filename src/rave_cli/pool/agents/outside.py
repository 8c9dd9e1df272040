"""What leads a job out to the places that it may reach, and to no other.

Its machine's network reaches nothing. Its command runs under a program (inside.py) that listens in
the guest where those places would be, and passes what comes on over the command channel. This end
connects, to what the pool was told jobs may reach: the guest names a place by its number, so there
is nothing else that it could name.
"""

from __future__ import annotations

import os
import queue
import re
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode
from rave_cli.pool.agents import inside
from rave_cli.pool.agents.agent import UnfitJobError
from rave_cli.pool.agents.inside import CLOSED, DATA, END, FRAME, OPEN, PIECE, PRINTED, TOOK, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session

    OnOutput = Callable[[int, bytes], None]

# Connections of a job at a time, and seconds for one to come about or to take what it is sent.
MOST = 64
PATIENCE = 20.0

# Seconds for what leads out to notice that its job has ended; what does not says nothing any more.
NOTICES = 1.0

_LITERAL = re.compile(r"[0-9.]+")

# Names lead to addresses of the guest's own; addresses are its own, too, so nothing need be told of
# this. Only root may listen at the ports of HTTP and HTTPS otherwise.
_SET_UP = """
set -eu
sysctl -qw net.ipv4.ip_unprivileged_port_start=0
hosts=$(cat /etc/hosts)
for word; do
  case $word in
    *=*) hosts="${word#*=} ${word%%=*}
$hosts" ;;
    *) ip address add "$word/32" dev lo ;;
  esac
done
echo "$hosts" >/etc/hosts
"""


@dataclass(frozen=True)
class AllowedPlace:
    """A place that a job may reach, and where its guest listens in its stead."""

    host: str
    port: int
    address: str

    @property
    def told(self) -> str:
        """What sets it up in the guest; empty if there is nothing to do."""
        if self.address != self.host:
            return f"{self.host}={self.address}"
        return "" if self.address.startswith("127.") else self.address


def places(allow: Sequence[str]) -> tuple[AllowedPlace, ...]:
    """Return the places that HOST:PORT each name."""
    found: list[AllowedPlace] = []
    addresses: dict[str, str] = {}
    for text in allow:
        host, _, port = text.rpartition(":")
        own = f"127.76.0.{len(addresses) + 1}"
        address = host if _LITERAL.fullmatch(host) else addresses.setdefault(host, own)
        found.append(AllowedPlace(host, int(port), address))
    return tuple(found)


def run(
    session: CommandChannel | Session,
    words: Sequence[str],
    allow: Sequence[str],
    *,
    on_output: OnOutput,
    timeout: float,
) -> int:
    """Run a command in the guest that may reach some places, as the session's `stream` does.

    Raises:
        UnfitJobError: the guest cannot lead there, or says what it should not.
        RaveError: as that does.
    """
    found = places(allow)
    _set_up(session, found, timeout)
    source, sink = os.pipe()
    relay = _Relay(found, sink, on_output)
    text = Path(inside.__file__).read_text()
    listens = [f"{place.address}:{place.port}" for place in found]
    try:
        return session.stream(
            ("python3", "-c", text, *listens, "--", *words),
            stdin=source, on_output=relay.take, timeout=timeout,
        )  # fmt: skip
    finally:
        # Whoever writes into it then hears that nobody reads any more.
        os.close(source)
        relay.end()
        os.close(sink)


def _set_up(
    session: CommandChannel | Session, found: tuple[AllowedPlace, ...], timeout: float
) -> None:
    said = bytearray()
    told = sorted({place.told for place in found} - {""})
    status = session.stream(
        ("sh", "-c", _SET_UP, "rave-allow", *told), stdin=None, timeout=timeout, sudo=True,
        on_output=lambda _stream, data: said.extend(data[: 4096 - len(said)]),
    )  # fmt: skip
    if status != 0:
        last = " ".join(said.decode(errors="replace").split()[-40:])
        raise UnfitJobError(
            f"its machine cannot lead out: {last or f'exit status {status}'}",
            hint="rave pool submit   (without --allow)",
            exit_code=ExitCode.CHECK_FAILED,
        )


class _Relay:
    """This host's end of a job's connections. A guest can open and fill so many, and no more."""

    def __init__(self, found: tuple[AllowedPlace, ...], sink: int, on_output: OnOutput) -> None:
        self._places, self._sink, self._on_output = found, sink, on_output
        self._lock = threading.Lock()
        self._heard = b""
        self._open: dict[int, _Connection] = {}
        self._threads: list[threading.Thread] = []
        self._ended = False

    def take(self, stream: int, data: bytes) -> None:
        """Take what the guest says; it is never waited for anything."""
        if stream != 1:
            self._on_output(stream, data)
            return
        self._heard += data
        while len(self._heard) >= FRAME.size:
            kind, number, size = FRAME.unpack_from(self._heard)
            if size > PIECE:
                raise _odd()
            if len(self._heard) < FRAME.size + size:
                return
            data = self._heard[FRAME.size : FRAME.size + size]
            self._heard = self._heard[FRAME.size + size :]
            self._told(kind, number, data)

    def _told(self, kind: int, number: int, data: bytes) -> None:
        one = self._open.get(number)
        if kind == PRINTED:
            self._on_output(1, data)
        elif kind == OPEN and one is None and len(data) == 1 and data[0] < len(self._places):
            if len(self._open) >= MOST:
                self.say(CLOSED, number)
                return
            self._open[number] = one = _Connection(self, number, self._places[data[0]])
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(one.thread)
            one.thread.start()
        elif kind in (DATA, END, CLOSED, TOOK):
            # What is closed here may still be spoken of there.
            if one is not None:
                one.told(kind, data)
        else:
            raise _odd()

    def say(self, kind: int, number: int, data: bytes = b"") -> None:
        """Say something to the guest; nobody hears it once its command has ended."""
        view = memoryview(FRAME.pack(kind, number, len(data)) + data)
        with self._lock, suppress(OSError):
            while view and not self._ended:
                view = view[os.write(self._sink, view) :]

    def forget(self, number: int) -> None:
        """Take it that a connection is no more."""
        self._open.pop(number, None)
        self.say(CLOSED, number)

    def end(self) -> None:
        """Close all that there is; nothing is said to the guest any more."""
        with self._lock:
            # What it says it to is another's file soon.
            self._ended = True
        for one in [*self._open.values()]:
            one.close()
        until = time.monotonic() + NOTICES
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


class _Connection:
    """A connection to an allowed place: one thread takes what comes, another what goes."""

    def __init__(self, relay: _Relay, number: int, place: AllowedPlace) -> None:
        self._relay, self._number, self._place = relay, number, place
        # None is the end of what is sent.
        self._sending: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting = 0
        self._room = threading.Condition()
        self._under_way = 0
        self._closed = False
        self._stream: socket.socket | None = None
        self.thread = threading.Thread(target=self._lead, name="way out of a job", daemon=True)

    def told(self, kind: int, data: bytes) -> None:
        """Take what the guest says of it."""
        if kind == TOOK and len(data) == 4:
            with self._room:
                self._under_way -= struct.unpack("!I", data)[0]
                self._room.notify()
        elif kind == DATA:
            with self._room:
                self._waiting += len(data)
                if self._waiting > WINDOW:
                    raise _odd()
            self._sending.put(data)
        elif kind == END:
            self._sending.put(None)
        elif kind == CLOSED:
            self.close()
        else:
            raise _odd()

    def close(self) -> None:
        """End it, from whatever thread."""
        with self._room:
            self._closed = True
            self._room.notify()
        self._sending.put(None)
        if self._stream is not None:
            with suppress(OSError):
                self._stream.shutdown(socket.SHUT_RDWR)

    def _lead(self) -> None:
        try:
            place = (self._place.host, self._place.port)
            with socket.create_connection(place, timeout=PATIENCE) as stream:
                self._stream = stream
                sends = threading.Thread(target=self._send, args=(stream,), daemon=True)
                sends.start()
                try:
                    self._receive(stream)
                finally:
                    self._relay.say(END, self._number)
                    sends.join()
        except OSError:
            # It is not there, or has gone: the guest sees its connection close.
            pass
        finally:
            self._relay.forget(self._number)

    def _receive(self, stream: socket.socket) -> None:
        while not self._closed:
            try:
                data = stream.recv(PIECE)
            except TimeoutError:
                continue
            if not data:
                return
            with self._room:
                self._room.wait_for(lambda: self._closed or self._under_way < WINDOW)
                self._under_way += len(data)
            if not self._closed:
                self._relay.say(DATA, self._number, data)

    def _send(self, stream: socket.socket) -> None:
        try:
            while (data := self._sending.get()) is not None:
                stream.sendall(data)
                with self._room:
                    self._waiting -= len(data)
                self._relay.say(TOOK, self._number, struct.pack("!I", len(data)))
            stream.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()


def _odd() -> UnfitJobError:
    return UnfitJobError(
        "its machine says what it should not of its ways out",
        hint="rave pool submit   (without --allow)",
        exit_code=ExitCode.CHECK_FAILED,
    )
