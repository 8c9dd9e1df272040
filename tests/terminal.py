"""A program at a terminal of its own, which a test can read, type into and close."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SETSID = shutil.which("setsid") or "setsid"
RAVE = (sys.executable, "-m", "rave_cli")


class Terminal:
    """Runs a program as the leader of a session whose controlling terminal is a pseudo-terminal."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        size: tuple[int, int] = (24, 80),
        stdout: int | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, size)
        self.shown = ""
        self.child = subprocess.Popen(
            [SETSID, "--ctty", *argv],
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            env=dict(os.environ) | {"TERM": "xterm"} | dict(env or {}),
            cwd=cwd,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self.close()
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()

    def close(self) -> None:
        """Close the terminal: the kernel tells the session with SIGHUP."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def type(self, text: str) -> None:
        """Type something; "\\x03" is Ctrl-C."""
        os.write(self.master, text.encode())

    def until(self, text: str, timeout: float = CEILING) -> str:
        """Return what was shown as soon as `text` is part of it."""
        deadline = time.monotonic() + timeout
        while text not in self.shown:
            if time.monotonic() > deadline or not self._read(0.1):
                raise AssertionError(f"no {text!r} in {self.shown!r}")
        return self.shown

    def end(self, timeout: float = CEILING) -> int:
        """Return how the program ended, with everything it showed read."""
        deadline = time.monotonic() + timeout
        while self.master >= 0 and self._read(0.1):
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end: {self.shown!r}")
        return self.child.wait(timeout=timeout)

    def _read(self, seconds: float) -> bool:
        """Take what is shown; returns false once nobody has the terminal open."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        # EIO: the last program has closed the other side.
        with suppress(OSError):
            data = os.read(self.master, 1 << 16)
            self.shown += data.decode(errors="replace")
            return bool(data)
        return False
