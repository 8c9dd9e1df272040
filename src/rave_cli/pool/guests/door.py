"""The host's end of a machine's port: a question at a time, as fast as the machine may ask.

A machine that asks too fast is not told so: nothing more is read of it for a while, so that its
writing waits. What is held of one is bounded: a line that has not ended, MOST_LINES whole ones, and
an answer that it has not taken.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rave_cli.pool.guests.lines import MOST_LINES, LineReader

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.pool.guests.answering import GuestDesk

# Questions and bytes of a machine in a second, and how many seconds' worth may come at once.
ASKS_PER_SECOND = 20.0
BYTES_PER_SECOND = float(8 << 20)
AT_ONCE = 2.0

CHUNK = 64 << 10


class GoneError(Exception):
    """QEMU has closed the port."""


@dataclass(eq=False)
class GuestDoor:
    """One machine's port.

    Attributes:
        stream: to QEMU; it does not block.
        desk: what answers.
    """

    stream: socket.socket
    desk: GuestDesk
    _lines: LineReader = field(default_factory=LineReader)
    _asked: deque[bytes] = field(default_factory=deque)
    _out: bytes = b""
    _free: float = 0.0

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self.stream.fileno()

    @property
    def speaks(self) -> bool:
        """Whether there is something to say."""
        return bool(self._out)

    def wait(self, now: float) -> float | None:
        """Return for how many seconds nothing is read of it; None if until it takes its answer."""
        return None if self._out else max(0.0, self._free - now)

    def hear(self, now: float) -> None:
        """Read once, and answer what may be answered.

        Raises:
            GoneError: there is nobody any more.
        """
        if not self._asked:
            try:
                data = self.stream.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                raise GoneError from error
            if not data:
                raise GoneError
            self._pay(len(data) / BYTES_PER_SECOND, now)
            self._asked.extend(self._lines.feed(data)[:MOST_LINES])
        self._serve(now)

    def say(self) -> None:
        """Say as much of the answer as is taken.

        Raises:
            GoneError: there is nobody any more.
        """
        try:
            while self._out:
                self._out = self._out[self.stream.send(self._out) :]
        except BlockingIOError:
            return
        except OSError as error:
            raise GoneError from error

    def close(self) -> None:
        """Leave."""
        self.desk.given.drop()
        self.stream.close()

    @property
    def waits(self) -> bool:
        """Whether it holds questions that are not answered yet."""
        return bool(self._asked)

    def _serve(self, now: float) -> None:
        while self._asked and not self._out and self._free <= now:
            self._pay(1 / ASKS_PER_SECOND, now)
            self._out = self.desk.answer(self._asked.popleft())
            self.say()

    def _pay(self, seconds: float, now: float) -> None:
        self._free = max(self._free, now - AT_ONCE) + seconds


def connect(place: Path) -> socket.socket | None:
    """Return a connection to a machine's port; None if there is none to be had now."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with suppress(OSError):
        stream.setblocking(False)
        stream.connect(str(place))
        return stream
    stream.close()
    return None
