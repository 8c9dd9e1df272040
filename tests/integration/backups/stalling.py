"""A way to a server that carries only so much: what comes after that waits, and nothing is said."""

from __future__ import annotations

import threading

from tests.between import Between
from tests.waiting import CEILING


class StallingWay(Between):
    """It carries `most` bytes in all."""

    def __init__(self, server: int, most: int) -> None:
        super().__init__(server)
        self._most, self._carried = most, 0
        self._stalled, self._ended = threading.Event(), threading.Event()

    def wait(self) -> None:
        """Wait until it carries no more."""
        assert self._stalled.wait(CEILING), f"it carried {self._carried} of {self._most} bytes"

    def lets(self, piece: int, carried: int, *, up: bool) -> bool:
        """As Between: what is too much is cut off once all is over."""
        del carried, up
        self._carried += piece
        if self._carried <= self._most:
            return True
        self._stalled.set()
        self._ended.wait()
        return False

    def __exit__(self, *fault: object) -> None:
        self._ended.set()
        super().__exit__(*fault)
