"""The end of what a job printed, as lines that are safe to show, however much it was."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rave_cli.text import line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rave_cli.pool.jobs.store import Piece

# Lines that are kept, and bytes of one: more without an end is several.
MOST_LINES = 2000
LONGEST_LINE = 4096


class LogTail:
    """Takes pieces of output as they come, and gives the lines that they make."""

    def __init__(self) -> None:
        self.after = 0
        self._rest = b""

    def take(self, pieces: Iterable[Piece]) -> list[str]:
        """Return the lines that come to their end with these pieces: the last of them."""
        lines: deque[str] = deque(maxlen=MOST_LINES)
        for piece in pieces:
            self.after = piece.number
            *whole, self._rest = (self._rest + piece.data).split(b"\n")
            for one in whole:
                lines.extend(_parts(one))
            while len(self._rest) > LONGEST_LINE:
                lines.append(_shown(self._rest[:LONGEST_LINE]))
                self._rest = self._rest[LONGEST_LINE:]
        return list(lines)

    def end(self) -> list[str]:
        """Return what is left when nothing more comes."""
        rest, self._rest = self._rest, b""
        return [_shown(rest)] if rest else []


def _parts(data: bytes) -> list[str]:
    starts = range(0, len(data) or 1, LONGEST_LINE)
    return [_shown(data[start : start + LONGEST_LINE]) for start in starts]


def _shown(data: bytes) -> str:
    return line(data.decode(errors="replace").expandtabs())
