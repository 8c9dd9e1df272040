"""What the portal knows of visitors, as files of its own account in memory: the program that
serves them ends while nobody is there.

A browser has a key alone, from the system's generator; a file is named by its hash, so that who
reads the directory has no key.
"""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

KEY = 32  # bytes
MOST = 256  # of each kind; the oldest makes room
# Seconds by which the clock may be put back. One that goes back further would let all last longer.
BACK = 300.0


class Sessions:
    """Documents by keys, each for a while."""

    def __init__(self, folder: str, seconds: float, clock: Callable[[], float] = time.time) -> None:
        """`seconds`: how long each is kept."""
        self._folder, self._seconds, self._clock = folder, seconds, clock
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def keep(self, document: dict[str, Any]) -> str:
        """Keep a document and return its new key."""
        self._make_room()
        key = os.urandom(KEY).hex()
        place = self._place(key)
        handle = os.open(f"{place}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as stream:
            now = self._clock()
            json.dump({"since": now, "until": now + self._seconds, "of": document}, stream)
        os.rename(f"{place}.new", place)
        return key

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the document of a key; None if there is none, or its time is over."""
        return self._read(self._place(key))

    def take(self, key: str) -> dict[str, Any] | None:
        """Return the document of a key, to one caller alone: afterwards there is none."""
        place = self._place(key)
        found = self._read(place)
        try:
            os.unlink(place)
        except FileNotFoundError:
            return None
        return found

    def end(self, whose: Callable[[dict[str, Any]], bool]) -> int:
        """Forget the documents of which `whose` says so; return how many."""
        ended = 0
        for place in self._places():
            found = self._read(place)
            if found is not None and whose(found):
                _forget(place)
                ended += 1
        return ended

    def _read(self, place: str) -> dict[str, Any] | None:
        try:
            with open(place, encoding="utf-8") as stream:
                found = json.load(stream)
        except FileNotFoundError:
            return None
        document: dict[str, Any] = found["of"]
        return document if found["since"] - BACK <= self._clock() < found["until"] else None

    def _make_room(self) -> None:
        """Forget those whose time is over, and the oldest where there are too many."""
        there = sorted(self._places(), key=_written)
        for place in there:
            if self._read(place) is None:
                _forget(place)
        for place in there[: max(0, len(there) - MOST + 1)]:
            _forget(place)

    def _places(self) -> Iterator[str]:
        for name in os.listdir(self._folder):
            if not name.endswith(".new"):
                yield f"{self._folder}/{name}"

    def _place(self, key: str) -> str:
        return f"{self._folder}/{sha256(key.encode()).hexdigest()}"


def _written(place: str) -> float:
    try:
        return os.stat(place).st_mtime
    except FileNotFoundError:
        return 0.0


def _forget(place: str) -> None:
    try:
        os.unlink(place)
    except FileNotFoundError:
        return
