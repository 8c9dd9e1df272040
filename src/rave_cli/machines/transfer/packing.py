"""Files and folders of this host as a tar stream for a guest.

Source: POSIX.1-2017 pax (ustar).
"""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.transfer.content import CHUNK, CONTENT, Copied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def measure(source: Path) -> int:
    """Return how many bytes of content a file or folder has."""
    return sum(found.st_size for _, found in _walk(source) if stat.S_ISREG(found.st_mode))


def pack(source: Path, stream: IO[bytes], *, end: str, on_bytes: Callable[[int], None]) -> Copied:
    """Write a file or folder as a tar stream, under the name CONTENT, and behind it an empty file
    named `end`: without it, it is not whole.

    Links are packed as links, but for `source` itself. Owners and special bits are not.

    Raises:
        RaveError: HOST if something cannot be read, or is cut short meanwhile.
    """
    copied = Copied()
    with tarfile.open(
        fileobj=stream, mode="w|", bufsize=CHUNK, format=tarfile.GNU_FORMAT,
        errors="surrogateescape", encoding="utf-8",
    ) as archive:  # fmt: skip
        for path, found in _walk(source):
            member = _member(_name(path, source), path, found)
            if member is None:
                copied.left_out.append(f"{path} is no file that can be copied")
            elif member.isreg():
                with _Counted(path, on_bytes) as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)
            if member is not None and not member.isdir():
                copied.files += 1
                copied.size += member.size
        archive.addfile(tarfile.TarInfo(end))
    return copied


def _name(path: str, source: Path) -> str:
    rest = os.path.relpath(path, source)
    return CONTENT if rest == "." else f"{CONTENT}/{rest}"


def _walk(source: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield what is to be packed with its status, folders before what is in them."""
    with paths.refusing(source):
        found = source.stat()
        yield str(source), found
        waiting = [str(source)] if stat.S_ISDIR(found.st_mode) else []
        while waiting:
            folder = waiting.pop()
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    status = entry.stat(follow_symlinks=False)
                    yield entry.path, status
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)


def _member(name: str, path: str, found: os.stat_result) -> tarfile.TarInfo | None:
    """Return the header of what is to be packed; None for what is no file, folder or link."""
    member = tarfile.TarInfo(name)
    member.mode = found.st_mode & 0o777
    member.mtime = int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115
    elif stat.S_ISREG(found.st_mode):
        member.size = found.st_size
    else:
        return None
    return member


class _Counted:
    """A file whose pieces are counted while they are read."""

    def __init__(self, path: str, on_bytes: Callable[[int], None]) -> None:
        self.path, self.on_bytes = Path(path), on_bytes
        with paths.refusing(self.path):
            self.file = self.path.open("rb", buffering=0)

    def __enter__(self) -> IO[bytes]:
        return cast("IO[bytes]", self)

    def __exit__(self, *_fault: object) -> None:
        self.file.close()

    def read(self, size: int = -1) -> bytes:
        """Return the next piece.

        Raises:
            RaveError: HOST if it cannot be read, or the file has become shorter.
        """
        data = b""
        with paths.refusing(self.path):
            while len(data) < size and (more := self.file.read(size - len(data))):
                data += more
        if len(data) < size:
            raise RaveError(
                f"{self.path} became shorter while it was copied",
                hint="copy it again once nobody writes to it",
                exit_code=ExitCode.HOST,
            )
        self.on_bytes(len(data))
        return data
