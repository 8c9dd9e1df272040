"""The stream of what is kept: records that are one line of JSON each, some with data behind them.

    {"v": 1, "instance": "…", "at": "2026-11-26T05:00:00Z"}          once, first
    {"service": "redis", "item": "dump.rdb", "at": "…"}              an item begins: its moment
    {"data": 65536} and so many bytes                                any number of times; or
    {"zeros": 65536}                                                 the same, of zeros
    {"known": "…", "bytes": 65536}                                   what the last backup has, too
    {"end": {"bytes": 262144, "crc32": 305419896}}                   the item is complete
    {"whole": {"items": 3}}                                          once, last: nothing is missing
    {"v": 2, "ok": false, "stage": "provider", "error": "…"}         the door's no: there is no more

The host reads it as it passes (rave_cli/backups/stream.py). What breaks off has no `whole`.
"""

from __future__ import annotations

import json
import re
import time
import zlib

from rave_guest.refusal import Refused
from rave_guest.state.pieces import PIECE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, BinaryIO

VERSION = 1
LONGEST = 4 << 10  # bytes of a line
MOST_DATA = 1 << 20  # bytes of data in a record that is read
# Both become names of files; an item's is the service's own.
SERVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ITEM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def now() -> str:
    """The time, as records tell it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def sum_of(data: bytes, nonce: bytes) -> str:
    """Return the name of a piece for one backup."""
    import hashlib

    return hashlib.md5(nonce + data, usedforsecurity=False).hexdigest()


class Writer:
    """Writes a stream, with `rate` bytes of data a second at most (0: as fast as it goes).

    The way to the host is what takes longest: what is zero, or the host has of the last backup of
    this machine (`known`, sums of it keyed with `nonce`), is named instead. A sum of MD5 costs an
    emulated guest a sixteenth of one of SHA-256; who would have two pieces of one sum does not know
    the key before they are read.
    """

    def __init__(
        self,
        out: BinaryIO,
        rate: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        *,
        known: Iterable[str] = (),
        nonce: bytes = b"",
    ) -> None:
        self._out, self._rate, self._sleep = out, rate, sleep
        self._known = frozenset(known)
        self._nonce = nonce
        self._items = 0

    def begin(self, instance: str) -> None:
        """Say whose it is."""
        self._say({"v": VERSION, "instance": instance, "at": now()})

    def item(self, service: str, name: str, pieces: Iterable[bytes]) -> None:
        """Send an item: its moment is now, whatever time its pieces take."""
        self._say({"service": service, "item": name, "at": now()})
        size, crc = 0, 0
        for piece in pieces:
            for at in range(0, len(piece), PIECE):
                data = piece[at : at + PIECE]
                self._data(data)
                size, crc = size + len(data), zlib.crc32(data, crc)
                if self._rate:
                    self._sleep(len(data) / self._rate)
        self._say({"end": {"bytes": size, "crc32": crc}})
        self._items += 1

    def _data(self, data: bytes) -> None:
        if data.count(0) == len(data):
            self._say({"zeros": len(data)})
        elif self._known and (name := sum_of(data, self._nonce)) in self._known:
            self._say({"known": name, "bytes": len(data)})
        else:
            self._say({"data": len(data)}, data)

    def whole(self) -> None:
        """Say that nothing is missing."""
        self._say({"whole": {"items": self._items}})

    def _say(self, record: dict[str, Any], data: bytes = b"") -> None:
        self._out.write(json.dumps(record).encode() + b"\n" + data)
        self._out.flush()


class Received:
    """An item as it arrives: `pieces` are to be read to their end before the next one."""

    def __init__(self, service: str, name: str, pieces: Iterator[bytes]) -> None:
        self.service, self.name, self.pieces = service, name, pieces


def read(stream: BinaryIO) -> Iterator[Received]:
    """Yield the items of a stream.

    Raises:
        Refused: it breaks off, is damaged, or is none.
    """
    first = _record(stream)
    if first.get("v") != VERSION:
        raise Refused("input", "what came is no backup that this guest understands")
    count = 0
    while True:
        record = _record(stream)
        if "whole" in record:
            if record["whole"] != {"items": count}:
                raise Refused("input", "the backup lacks a part")
            return
        service, name = record.get("service"), record.get("item")
        if not (isinstance(service, str) and SERVICE.fullmatch(service)):
            raise Refused("input", "the backup is damaged: it names no service")
        if not (isinstance(name, str) and ITEM.fullmatch(name)):
            raise Refused("input", "the backup is damaged: it names no item")
        yield Received(service, name, _pieces(stream))
        count += 1


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    size, crc = 0, 0
    while True:
        record = _record(stream)
        if "end" in record:
            if record["end"] != {"bytes": size, "crc32": crc}:
                raise Refused("input", "the backup is damaged: an item is not what it was")
            return
        length = record.get("zeros", record.get("data"))
        if type(length) is not int or not 0 < length <= MOST_DATA:
            raise Refused("input", "the backup is damaged: data of no size")
        data = bytes(length) if "zeros" in record else stream.read(length)
        if len(data) != length:
            raise Refused("input", "the backup broke off on its way")
        size, crc = size + length, zlib.crc32(data, crc)
        yield data


def _record(stream: BinaryIO) -> dict[str, Any]:
    line = stream.readline(LONGEST)
    if not line.endswith(b"\n"):
        raise Refused("input", "the backup broke off on its way")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise Refused("input", "the backup is damaged: not a record")
    return record
