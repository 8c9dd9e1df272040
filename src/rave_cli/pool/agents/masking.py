"""Takes secret values out of output that comes in pieces.

As far as they stand in it as they are: what a command encodes, splits with other bytes or reverses
is not found. What may be the beginning of one is held back until more has come.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = b"[secret]"

# Shorter ones stand in anything, and taking them out would tell where.
SHORTEST = 4


class Masking:
    """Masks some values in a stream of output."""

    def __init__(self, values: Iterable[bytes]) -> None:
        lines = {line for value in values for line in (value, *value.splitlines())}
        # The longest first: one may begin with another.
        self._values = sorted((v for v in lines if len(v) >= SHORTEST), key=len, reverse=True)
        self._pattern = (
            re.compile(b"|".join(map(re.escape, self._values))) if self._values else None
        )
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """Return what can be passed on after a piece has come."""
        if self._pattern is None:
            return data
        data = self._rest + data
        cut = len(data) - self._open(data)
        for found in self._pattern.finditer(data):
            # What is whole is not parted.
            if found.start() < cut < found.end():
                cut = found.start()
        self._rest = data[cut:]
        return self._pattern.sub(MASK, data[:cut])

    def flush(self) -> bytes:
        """Return what was held back, at the end."""
        data, self._rest = self._rest, b""
        return data if self._pattern is None else self._pattern.sub(MASK, data)

    def _open(self, data: bytes) -> int:
        """Return how many bytes at the end may be the beginning of a value."""
        for length in range(min(len(data), len(self._values[0]) - 1), 0, -1):
            tail = data[-length:]
            if any(len(value) > length and value.startswith(tail) for value in self._values):
                return length
        return 0
