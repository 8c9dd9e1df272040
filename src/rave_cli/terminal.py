"""The terminal that rave was started at, lent to a program in a guest: raw for so long, and put
back however that ends.

Whoever is at it gets out without the guest's help: by Ctrl-] three times within a second, the way
of machinectl(1). A single one is the program's, as every other key is.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Ctrl-], how often it is pressed, and the seconds in which that counts.
WAY_OUT = 0x1D
PRESSES = 3
WITHIN = 1.0

# What a guest is told of the kind of terminal (TERM); a name of terminfo.
_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class LeftError(Exception):
    """Whoever is at the terminal has pressed the way out."""


class WayOut:
    """Tells from what is typed when the way out was pressed."""

    def __init__(self) -> None:
        self._presses: list[float] = []

    def pressed(self, typed: bytes, now: float) -> bool:
        """Return whether that makes it PRESSES in a row within WITHIN seconds; `now` in seconds."""
        for key in typed:
            if key != WAY_OUT:
                self._presses = []
                continue
            self._presses = [when for when in self._presses if now - when < WITHIN] + [now]
            if len(self._presses) >= PRESSES:
                return True
        return False


class Terminal:
    """A terminal that is raw. `input` gives what is typed; `changes` becomes readable when its
    window changes its size.
    """

    def __init__(self, given: int, changes: int) -> None:
        self.input = given
        self.changes = changes
        self._way_out = WayOut()

    @property
    def kind(self) -> str:
        """The kind of terminal, for the environment of what uses it (TERM)."""
        kind = os.environ.get("TERM", "")
        return kind if _KIND.fullmatch(kind) else "dumb"

    def size(self) -> tuple[int, int]:
        """Return rows and columns; zeros if it does not tell."""
        try:
            return termios.tcgetwinsize(self.input)
        except termios.error:
            return 0, 0

    def read(self, most: int) -> bytes:
        """Return what was typed, at most so many bytes; nothing once the terminal is gone.

        Raises:
            LeftError: the way out was pressed.
        """
        try:
            typed = os.read(self.input, most)
        except OSError:
            return b""
        if self._way_out.pressed(typed, time.monotonic()):
            raise LeftError
        return typed

    def changed(self) -> None:
        """Take note of a change of the window, so that `changes` waits for the next."""
        with suppress(BlockingIOError):
            os.read(self.changes, 1 << 12)


def draws() -> bool:
    """Return whether there is a terminal that can be drawn on, with somebody at it."""
    kind = os.environ.get("TERM", "")
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    return kind not in ("", "dumb") and all(one is not None and one.isatty() for one in streams)


def needed_for(option: str) -> None:
    """Refuse to go on unless standard input and output are a terminal.

    Raises:
        RaveError: USAGE, naming the option that needs one.
    """
    missing = [
        name
        for name, stream in (("standard input", sys.stdin), ("standard output", sys.stdout))
        if not stream.isatty()
    ]
    if missing:
        raise RaveError(
            f"{option} needs a terminal, and {' and '.join(missing)}"
            f" {'is' if len(missing) == 1 else 'are'} none",
            hint=f"leave {option} out, or call it at a terminal",
            exit_code=ExitCode.USAGE,
        )


@contextmanager
def raw() -> Iterator[Terminal]:
    """Lend the terminal of standard input: every key is handed on, Ctrl-C included."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def changed(_number: int, _frame: object) -> None:
        with suppress(BlockingIOError):
            os.write(tell, b"\0")

    handler = signal.signal(signal.SIGWINCH, changed)
    try:
        # At once: to wait until all is shown would be to wait for a reader that may be gone.
        tty.setraw(fd, termios.TCSANOW)
        yield Terminal(fd, told)
    finally:
        with signals.held():
            with suppress(termios.error):
                termios.tcsetattr(fd, termios.TCSANOW, before)
            signal.signal(signal.SIGWINCH, handler)
            os.close(told)
            os.close(tell)
