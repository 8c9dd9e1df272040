"""Logs as files of a bounded size: the current part, the older one, and what was dropped before.

The keeper of the logs (qemu/logkeeper.py) writes them; whoever reads one may be overtaken by it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.paths import refusing
from rave_cli.text import clean

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

# How much of a log is read at once, in bytes.
CHUNK = 1 << 20


def older(log: Path) -> Path:
    """Return where the part of a log is that came before the current one."""
    return log.with_name(f"{log.name}.1")


def dropped_file(log: Path) -> Path:
    """Return where it stands how much of a log was dropped."""
    return log.with_name(f"{log.name}.dropped")


def dropped(log: Path) -> int:
    """Return how many bytes of a log were dropped."""
    with suppress(OSError, ValueError):
        return int(dropped_file(log).read_bytes())
    return 0


class Tail:
    """Reads what was added to a log since the last call; one that is not there yet is empty."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._inode = 0
        self._offset = 0

    def read(self, most: int = CHUNK) -> bytes:
        """Return at most `most` new bytes.

        Raises:
            RaveError: HOST if the log cannot be read.
        """
        with refusing(self._log), ExitStack() as stack:
            for part in self._rest(_parts(self._log, stack)):
                inode = os.fstat(part.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                part.seek(self._offset)
                if data := part.read(most):
                    self._offset += len(data)
                    return data
        return b""

    def _rest(self, parts: list[BinaryIO]) -> list[BinaryIO]:
        """Return the parts from the one that was read last; all, if that is gone."""
        inodes = [os.fstat(part.fileno()).st_ino for part in parts]
        return parts[inodes.index(self._inode) :] if self._inode in inodes else parts

    def skip(self) -> None:
        """Count what is there now as read."""
        with refusing(self._log), ExitStack() as stack:
            for part in _parts(self._log, stack)[-1:]:
                found = os.fstat(part.fileno())
                self._inode, self._offset = found.st_ino, found.st_size


def _parts(log: Path, stack: ExitStack) -> list[BinaryIO]:
    """Open the parts of a log that there are, the older one first."""
    found: list[BinaryIO] = []
    # The current one is opened first: should it become the older one now, it is found twice.
    for place in (log, older(log)):
        with suppress(FileNotFoundError):
            part = stack.enter_context(place.open("rb", buffering=0))
            found.insert(0, part)
    return found


def end(log: Path, most: int) -> bytes:
    """Return the last `most` bytes of a log; none if there is no log.

    Raises:
        RaveError: HOST if it cannot be read.
    """
    found = b""
    with refusing(log), ExitStack() as stack:
        for part in reversed(_parts(log, stack)):
            size = os.fstat(part.fileno()).st_size
            part.seek(max(0, size - (most - len(found))))
            found = part.read(most - len(found)) + found
            if len(found) == most:
                break
    return found


def last_lines(log: Path, count: int = 12) -> tuple[str, ...]:
    """Return the last lines of a log, cleaned, empty ones left out; none if there is no log."""
    try:
        text = end(log, max(16384, 256 * count)).decode(errors="replace")
    except RaveError:
        return ()
    lines = [clean(line).rstrip() for line in text.replace("\r", "\n").split("\n")]
    return tuple([line for line in lines if line][-count:])
