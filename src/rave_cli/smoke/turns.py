"""Hands things on in an order that was fixed before, in whatever order they come."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Turns:
    """Named things to do, each when all before it are done. Threads may share it."""

    def __init__(self, names: Iterable[str]) -> None:
        """Expect each of `names` once, in their order."""
        self._expected = list(names)
        self._waiting: dict[str, Callable[[], object]] = {}
        self._lock = threading.Lock()

    def put(self, name: str, do: Callable[[], object]) -> None:
        """Do this as soon as its turn has come, and then whatever waited for it.

        Raises whatever something raises whose turn it was.
        """
        with self._lock:
            self._waiting[name] = do
            while self._expected and self._expected[0] in self._waiting:
                self._waiting.pop(self._expected.pop(0))()

    def end(self) -> None:
        """Do what waits, in order: what is still missing does not come."""
        with self._lock:
            for name in [name for name in self._expected if name in self._waiting]:
                self._waiting.pop(name)()
            self._expected.clear()
