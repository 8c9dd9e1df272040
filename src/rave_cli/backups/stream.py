"""The stream of what a guest keeps, read as it passes (rave_guest/state/wire.py has its form).

A guest is not trusted: its lines and data are bounded, and so is all of it. What is in the items is
for the guest that they are given to; here they are bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = 1
LONGEST = 4 << 10  # bytes of a line
MOST_DATA = 1 << 20  # bytes of data in a record
MOST_ITEMS = 10_000
NAMES = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
MOMENT = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class BrokenStreamError(RaveError):
    """What a guest sends, or a backup holds, is not whole."""


@dataclass(frozen=True)
class KeptItem:
    """A part of what a service keeps: its size in bytes, and the moment that it is of (UTC)."""

    service: str
    name: str
    at: str
    size: int


class StateStream:
    """Reads a stream piece by piece, and gives it on: plain, as it is kept, or for the way into a
    guest with zeros told instead of sent. The sum and the size are of the plain one.

    Args:
        most: bytes of it at most.
        packs: whether it is given on for the way into a guest.
        known: the pieces of the backup before, by which the guest may name what it still has.
        on_piece: told each piece of data.
    """

    def __init__(
        self,
        most: int,
        *,
        packs: bool = False,
        known: KnownPieces | None = None,
        on_piece: Callable[[bytes], None] = lambda _data: None,
    ) -> None:
        self.most, self.packs, self.known, self.on_piece = most, packs, known, on_piece
        self.size = 0
        self.instance = ""
        self.whole = False
        self.refusal: tuple[str, str] | None = None
        self.items: list[KeptItem] = []
        self._sum = hashlib.sha256()
        self._rest = bytearray()
        self._left = 0  # bytes of data that are to come
        self._found: bytes | None = None  # data that was named
        self._item: dict[str, Any] | None = None
        self._got = self._crc = 0

    @property
    def sha256(self) -> str:
        """The sum of all that was read."""
        return self._sum.hexdigest()

    @property
    def services(self) -> tuple[str, ...]:
        """The services in it, in the order in which they were copied."""
        return tuple(dict.fromkeys(item.service for item in self.items))

    def feed(self, piece: bytes) -> bytes:
        """Read a piece, and return what is to be given on.

        Raises:
            BrokenStreamError: NOT_READY if it is none of such a stream.
        """
        self._rest += piece
        given: list[bytes] = []
        while (found := self._next()) is not None:
            given.append(found)
        return b"".join(given)

    def _next(self) -> bytes | None:
        """Return the next that is whole; None if there is none yet."""
        if self._left:
            if len(self._rest) < self._left:
                return None
            data, self._left = self._taken(self._left), 0
            return self._piece(data)
        end = self._rest.find(b"\n", 0, LONGEST)
        if end < 0:
            if len(self._rest) >= LONGEST:
                raise _broken("a line without end")
            return None
        line = self._taken(end + 1)
        self._record(line)
        if self._found is not None:
            data, self._found = self._found, None
            return self._piece(data)
        # What is given on of data begins with a line of its own.
        return b"" if self._left or self.refusal else self._counted(line)

    def _taken(self, count: int) -> bytes:
        found = bytes(self._rest[:count])
        del self._rest[:count]
        return found

    def _piece(self, data: bytes) -> bytes:
        self._got += len(data)
        self._crc = zlib.crc32(data, self._crc)
        plain = self._counted(b'{"data": %d}\n' % len(data) + data)
        self.on_piece(data)
        if self.packs and data.count(0) == len(data):
            return b'{"zeros": %d}\n' % len(data)
        return plain

    def _counted(self, plain: bytes) -> bytes:
        self.size += len(plain)
        if self.size > self.most:
            raise _broken(f"it has more than {self.most >> 20} MiB")
        self._sum.update(plain)
        return plain

    def finish(self) -> None:
        """Make sure that nothing is missing.

        Raises:
            BrokenStreamError: NOT_READY if something is.
        """
        if not self.whole:
            raise _broken("it broke off")

    def _record(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or self.whole or self.refusal:
            raise _broken("not a record")
        if record.get("ok") is False:
            self.refusal = (str(record.get("stage"))[:40], str(record.get("error"))[:1000])
        elif not self.instance:
            self._begin(record)
        elif self._item is not None:
            self._within(record)
        elif "whole" in record:
            if record["whole"] != {"items": len(self.items)}:
                raise _broken("a part is missing")
            self.whole = True
        else:
            self._start(record)

    def _begin(self, record: dict[str, Any]) -> None:
        instance = record.get("instance")
        if record.get("v") != VERSION or not isinstance(instance, str) or not instance:
            raise _broken("it is of a version that this rave does not know")
        self.instance = instance[:64]

    def _start(self, record: dict[str, Any]) -> None:
        names = (record.get("service"), record.get("item"))
        if not all(isinstance(name, str) and NAMES.fullmatch(name) for name in names):
            raise _broken("an item without a name")
        if not MOMENT.fullmatch(str(record.get("at"))) or len(self.items) >= MOST_ITEMS:
            raise _broken("an item of no time")
        self._item, self._got, self._crc = record, 0, 0

    def _within(self, record: dict[str, Any]) -> None:
        item = self._item
        if item is not None and "end" in record:
            if record["end"] != {"bytes": self._got, "crc32": self._crc}:
                raise _broken("an item is not what was sent")
            self.items.append(KeptItem(item["service"], item["item"], item["at"], self._got))
            self._item = None
            return
        if "known" in record:
            self._found = self.known.get(str(record["known"])) if self.known else None
            if self._found is None or len(self._found) != record.get("bytes"):
                raise _broken("it names a piece that the backup before has not")
            return
        size = record.get("zeros", record.get("data"))
        if type(size) is not int or not 0 < size <= MOST_DATA:
            raise _broken("data of no size")
        if "zeros" in record:
            self._found = bytes(size)
        else:
            self._left = size


def item(service: str, name: str, at: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield an item as a guest takes it; `at` is the moment that it is of."""
    yield json.dumps({"service": service, "item": name, "at": at}).encode() + b"\n"
    size, crc = 0, 0
    for piece in pieces:
        for start in range(0, len(piece), MOST_DATA):
            data = piece[start : start + MOST_DATA]
            size, crc = size + len(data), zlib.crc32(data, crc)
            if data.count(0) == len(data):
                yield b'{"zeros": %d}\n' % len(data)
            else:
                yield b'{"data": %d}\n' % len(data) + data
    yield json.dumps({"end": {"bytes": size, "crc32": crc}}).encode() + b"\n"


def whole(items: int) -> bytes:
    """Return the end of a stream of so many items."""
    return json.dumps({"whole": {"items": items}}).encode() + b"\n"


class KnownPieces:
    """The pieces of a backup, in a file that has no name, by their sums keyed with `nonce`."""

    def __init__(self, place: IO[bytes]) -> None:
        self.nonce = secrets.token_hex(32)
        self._place = place
        self._where: dict[str, tuple[int, int]] = {}

    @property
    def names(self) -> list[str]:
        """Their sums."""
        return list(self._where)

    def add(self, data: bytes) -> None:
        """Keep a piece; zeros are told otherwise."""
        name = hashlib.md5(self.nonce.encode() + data, usedforsecurity=False).hexdigest()
        if name not in self._where and data.count(0) < len(data):
            self._where[name] = (self._place.seek(0, os.SEEK_END), len(data))
            self._place.write(data)

    def get(self, name: str) -> bytes | None:
        """Return a piece; None if there is none of that sum."""
        if name not in self._where:
            return None
        at, size = self._where[name]
        self._place.seek(at)
        return self._place.read(size)


def _broken(why: str) -> BrokenStreamError:
    return BrokenStreamError(
        f"what the machine keeps did not come whole: {why}",
        hint="try again; rave vm logs NAME says what the machine saw",
        exit_code=ExitCode.NOT_READY,
    )
