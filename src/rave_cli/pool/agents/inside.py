"""Runs in the guest, handed over as text: a job's command, and what leads out to allowed places.

    python3 -c TEXT ADDRESS:PORT ... -- COMMAND ...

Frames go over standard output and input: kind, connection, length, data. What the command prints is
one kind of them. It listens at an address of the guest's own for each place that is allowed; the
host, at the other end, is asked for that place by its number, and connects to it or does not: what
is allowed is decided there. Only Python's standard library is used; nothing of rave is in a guest.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys

# Kind (of those below), connection, and bytes of data behind.
FRAME = struct.Struct("!BHI")
PRINTED, OPEN, DATA, END, CLOSED, TOOK = range(1, 7)

# Bytes of data in a frame, and under way on a connection in one direction until they are taken.
PIECE = 16 << 10
WINDOW = 128 << 10


class Leading:
    """A connection of the guest, and what waits for it."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self.stream = stream
        self.waiting = b""
        self.under_way = 0
        self.reads = True
        self.told_end = self.closing = False


class Ways:
    """What listens here, and the connections there are."""

    def __init__(self, places: list[str]) -> None:
        self.listening: dict[int, tuple[int, socket.socket]] = {}
        for number, place in enumerate(places):
            address, _, port = place.rpartition(":")
            found = socket.create_server((address, int(port)))
            self.listening[found.fileno()] = (number, found)
        self.open: dict[int, Leading] = {}
        self.last = 0
        self.heard = b""

    def awaited(self) -> tuple[list[int], list[int]]:
        """What may be read, and what is to be written."""
        read = [*self.listening]
        read += [one.stream.fileno() for one in self._reading()]
        return read, [one.stream.fileno() for one in self.open.values() if one.waiting]

    def _reading(self) -> list[Leading]:
        found = self.open.values()
        return [one for one in found if one.reads and not one.closing and one.under_way < WINDOW]

    def turn(self, read: list[int], write: list[int]) -> None:
        """Do what can be done without waiting."""
        for number, found in [*self.listening.values()]:
            if found.fileno() in read and len(self.open) < 1000:
                self._accept(number, found)
        for number, one in [*self.open.items()]:
            try:
                if one.stream.fileno() in write:
                    self._write(number, one)
                if one.stream.fileno() in read:
                    self._read(number, one)
            except OSError:
                self._close(number)

    def _accept(self, place: int, found: socket.socket) -> None:
        stream, _ = found.accept()
        while self.last in self.open or not self.last:
            self.last = (self.last + 1) % 65536
        self.open[self.last] = Leading(stream)
        say(OPEN, self.last, bytes([place]))

    def _read(self, number: int, one: Leading) -> None:
        data = one.stream.recv(min(PIECE, WINDOW - one.under_way))
        if not data:
            one.reads = False
            say(END, number)
            return
        one.under_way += len(data)
        say(DATA, number, data)

    def _write(self, number: int, one: Leading) -> None:
        sent = one.stream.send(one.waiting)
        one.waiting = one.waiting[sent:]
        say(TOOK, number, struct.pack("!I", sent))
        self._end(number, one)

    def _end(self, number: int, one: Leading) -> None:
        if one.waiting:
            return
        if one.closing:
            self.open.pop(number).stream.close()
        elif one.told_end:
            one.stream.shutdown(socket.SHUT_WR)

    def _close(self, number: int) -> None:
        self.open.pop(number).stream.close()
        say(CLOSED, number)

    def hear(self, data: bytes) -> None:
        """Take what the host says."""
        self.heard += data
        while len(self.heard) >= FRAME.size:
            kind, number, size = FRAME.unpack_from(self.heard)
            if len(self.heard) < FRAME.size + size:
                return
            data = self.heard[FRAME.size : FRAME.size + size]
            self.heard = self.heard[FRAME.size + size :]
            one = self.open.get(number)
            if one is not None:
                self._told(kind, number, one, data)

    def _told(self, kind: int, number: int, one: Leading, data: bytes) -> None:
        if kind == DATA:
            one.waiting += data
        elif kind == TOOK:
            one.under_way -= struct.unpack("!I", data)[0]
        elif kind in (END, CLOSED):
            # Once what came before that is written.
            one.told_end, one.closing = True, one.closing or kind == CLOSED
            try:
                self._end(number, one)
            except OSError:
                self._close(number)


def say(kind: int, number: int, data: bytes = b"") -> None:
    """Say something to the host."""
    view = memoryview(FRAME.pack(kind, number, len(data)) + data)
    while view:
        view = view[os.write(1, view) :]


def main(words: list[str]) -> int:
    """Run a command, and lead out until it has ended; return its exit status, as a shell would."""
    at = words.index("--")
    ways = Ways(words[:at])
    child = subprocess.Popen(words[at + 1 :], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    printed, host = child.stdout.fileno() if child.stdout else -1, 0
    # One that has closed its output may still want to reach something.
    while printed >= 0 or child.poll() is None:
        read, write = ways.awaited()
        read += [fd for fd in (printed, host) if fd >= 0]
        found = select.select(read, write, [], None if printed >= 0 else 0.1)
        if host in found[0]:
            data = os.read(host, 65536)
            ways.hear(data)
            host = host if data else -1
        if printed in found[0]:
            data = os.read(printed, PIECE)
            printed = printed if data else -1
            if data:
                say(PRINTED, 0, data)
        ways.turn(found[0], found[1])
    status = child.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status not in (9, 19) else None
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
