"""Puts a terminal back that was drawn on, even when whoever drew is killed."""

from __future__ import annotations

import os
import signal
import sys
import termios
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from rave_cli import signals

if TYPE_CHECKING:
    from collections.abc import Iterator

# xterm's ctlseqs.txt, and the Kitty keyboard protocol: whatever a full-screen program may have
# switched on, off; the screen as it was; the cursor seen.
RESTORED = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?2026l\x1b[?2048l"
    b"\x1b[<u\x1b[?7h\x1b[?1049l\x1b[?25h\x1b[0m\r\n"
)


@contextmanager
def guarded() -> Iterator[None]:
    """Let another process put the terminal of standard error back if this one is killed meanwhile.

    To be entered before there are threads, of which the other would have none.
    """
    fd = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
    before = termios.tcgetattr(fd)
    told, tell = os.pipe2(os.O_CLOEXEC)
    with signals.held():
        child = os.fork()
        if not child:
            os.close(tell)
            _watch(told, fd, before)
        os.close(told)
    try:
        yield
    finally:
        with signals.held():
            with suppress(OSError):
                os.write(tell, b".")
            os.close(tell)
            with suppress(ChildProcessError):
                os.waitpid(child, 0)


def _watch(told: int, fd: int, before: list[Any]) -> NoReturn:
    """Wait until it is said that all is well, or cannot be said any more."""
    try:
        # What is sent to all of the terminal's is not meant for this.
        os.setsid()
        for number in signals.ENDING:
            signal.signal(number, signal.SIG_IGN)
        if not os.read(told, 1):
            with suppress(termios.error):
                termios.tcsetattr(fd, termios.TCSANOW, before)
            os.write(fd, RESTORED)
    finally:
        os._exit(0)
