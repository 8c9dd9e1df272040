"""Directories as two items: the bytes of their files, one behind the other, and then the list.

A file may grow, shrink or go while it is read: the list says what was read of it.
"""

from __future__ import annotations

import json
import os
import stat

from rave_guest.refusal import Refused
from rave_guest.state.pieces import pieces_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    # Its path below the directory, its mode, and what was read of it (None: a folder).
    Entry = tuple[str, int, int | None]

BYTES, LIST = "files", "files.json"
MARKS = ".rave-recovery"


def kept(
    path: str, leave_out: Callable[[str], bool] = lambda _: False
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield a directory as items, without what is left out.

    Raises:
        OSError: something that is there cannot be read.
    """
    entries: list[Entry] = []
    yield BYTES, read(path, leave_out, entries)
    yield LIST, [json.dumps(entries).encode()]


def read(path: str, leave_out: Callable[[str], bool], entries: list[Entry]) -> Iterator[bytes]:
    """Yield the bytes of the files of a directory, and note each."""
    for folder, folders, files in os.walk(path):
        below = os.path.relpath(folder, path)
        folders[:] = [name for name in sorted(folders) if not leave_out(_joined(below, name))]
        for name in folders:
            found = os.lstat(f"{folder}/{name}")
            if stat.S_ISDIR(found.st_mode):
                entries.append((_joined(below, name), stat.S_IMODE(found.st_mode), None))
        for name in sorted(files):
            if not leave_out(_joined(below, name)):
                yield from file(f"{folder}/{name}", _joined(below, name), entries)


def file(place: str, name: str, entries: list[Entry]) -> Iterator[bytes]:
    """Yield the bytes of one file, and note it; one that has gone, or is none, is passed over."""
    size = 0
    try:
        found = os.lstat(place)
        if not stat.S_ISREG(found.st_mode):
            return
        for piece in pieces_of(place):
            size += len(piece)
            yield piece
    except FileNotFoundError:
        return
    entries.append((name, stat.S_IMODE(found.st_mode), size))


def _joined(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def put(folder: str, target: str) -> None:
    """Make a directory of its items.

    Raises:
        Refused: they are none.
        OSError: there is no room.
    """
    with open(f"{folder}/{LIST}", encoding="utf-8") as stream:
        entries = json.load(stream)
    with open(f"{folder}/{BYTES}", "rb") as given:
        for name, mode, size in entries:
            if name.startswith("/") or ".." in name.split("/"):
                raise Refused("input", "the backup is damaged: a file without a place")
            place = f"{target}/{name}"
            if size is None:
                os.mkdir(place, 0o700)
            else:
                os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
                with open(place, "wb") as out:
                    _copy(given, out, size)
            os.chmod(place, mode)


def _copy(given: BinaryIO, out: BinaryIO, size: int) -> None:
    """Copy so many bytes.

    Raises:
        Refused: there are not so many.
    """
    while size:
        data = given.read(min(size, 1 << 20))
        if not data:
            raise Refused("input", "the backup is damaged: a file lacks its end")
        out.write(data)
        size -= len(data)


def marks(path: str, lines: list[str] | None) -> list[str]:
    """Put lines into a file of rave's own in a directory (none: take it away), or leave it as it is
    (None); returns what is in it then.

    Raises:
        OSError: it cannot be written.
    """
    place = f"{path}/{MARKS}"
    if lines:
        owner = os.stat(path)
        with open(f"{place}.new", "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines))
        os.chown(f"{place}.new", owner.st_uid, owner.st_gid)
        os.rename(f"{place}.new", place)
    elif lines is not None and os.path.exists(place):
        os.remove(place)
    if not os.path.exists(place):
        return []
    with open(place, encoding="utf-8") as stream:
        return stream.read().split()
