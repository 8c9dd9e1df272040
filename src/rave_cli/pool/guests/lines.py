"""Lines out of what a machine says, which may be anything: bounded, whatever comes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# Bytes of a line: the longest command, its letters escaped for JSON at worst twice; and lines that
# are kept for later, for whoever asks waits for an answer.
LONGEST = 256 << 10
MOST_LINES = 8


@dataclass
class LineReader:
    """Takes bytes as they come and gives whole lines, without their ends and without empty ones.

    Of a line that is too long nothing is kept, nor of lines beyond MOST_LINES of one piece.
    """

    longest: int = LONGEST
    _begun: bytes = b""
    _skipping: bool = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are whole now."""
        found: list[bytes] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            line, self._begun = self._begun + piece, b""
            good = not self._skipping and len(line) <= self.longest
            self._skipping = False
            if good and line.strip() and len(found) < MOST_LINES:
                found.append(line)
        if not self._skipping:
            self._begun += rest
        if len(self._begun) > self.longest:
            self._begun, self._skipping = b"", True
        return found

    @property
    def held(self) -> int:
        """How many bytes are held of a line that has not ended."""
        return len(self._begun)
