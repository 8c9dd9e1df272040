"""A tar stream of a guest, which may be hostile, taken apart into a stage.

What comes is written into a folder made for it, every name relative to a directory that is open,
and no link is ever followed. Refused is whatever could act outside of it, now or later: names that
lead out, links that do, devices, set-user-ID bits, files that others may write.

Sources: POSIX.1-2017 pax (ustar), PEP 706 (what an archive of data may hold).
"""

from __future__ import annotations

import os
import tarfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from rave_cli import paths
from rave_cli.machines.transfer.content import CHUNK, CONTENT, Copied, UnsafeContentError, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Bytes of a header's extension, such as a long name: a path may have 4096 (PATH_MAX).
LONGEST_EXTENSION = 1 << 16

# Bytes behind the end of an archive; GNU tar fills its last record of 10 KiB.
MOST_PADDING = 1 << 20

_EXTENSIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip

# What may be read, run and changed by whom: no set-user-ID, and nothing that others may change.
_ALLOWED = 0o755


class _Header(tarfile.TarInfo):
    """A header whose extensions are bounded: they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Take a header's content in: the entry point that tarfile names for subclasses. Before it,
        versions differ in what they call (`frombuf` is left out by some).
        """
        if self.type in _EXTENSIONS and self.size > LONGEST_EXTENSION:
            raise UnsafeContentError(f"a header of {self.size} bytes")
        taken: tarfile.TarInfo | None = super()._proc_member(archive)  # type: ignore[misc]  # not in typeshed
        return taken


def unpack(
    stream: IO[bytes],
    stage: Path,
    *,
    leave_out: bool,
    on_bytes: Callable[[int], None],
    most_members: int | None = None,
) -> Copied:
    """Write what a tar stream holds below `stage`, as one file or one folder named CONTENT.

    Modes and times are kept, but for what `_ALLOWED` takes away.

    Args:
        stream: a folder as `.` and what is in it, or one file under any name.
        stage: an empty directory of ours that nobody else may enter.
        leave_out: leave devices and links that lead out of the tree out, instead of refusing all.
        on_bytes: told the size of each piece that was written.
        most_members: refuse more files, folders and whatever else than this; None takes any number.

    Raises:
        UnsafeContentError: CHECK_FAILED for content that must not be on this host.
        RaveError: HOST if it cannot be written.
    """
    copied = Copied()
    try:
        with (
            _Stage(stage, copied, on_bytes, leave_out=leave_out) as place,
            tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Header,
                         errors="surrogateescape", encoding="utf-8") as archive,
        ):  # fmt: skip
            count = 0
            while (member := archive.next()) is not None:
                count += 1
                if most_members is not None and count > most_members:
                    raise UnsafeContentError(f"more than {most_members} files and folders")
                # Else it keeps every header there was. (typeshed leaves the attribute out.)
                archive.members = []  # type: ignore[attr-defined]
                place.take(member, archive)
            _drain(stream)
    except (tarfile.TarError, RecursionError, ValueError) as error:
        raise UnsafeContentError(f"it is no tar archive that rave reads ({error})") from error
    except OSError as error:
        raise paths.os_fault(error, stage.parent) from error
    return copied


def _drain(stream: IO[bytes]) -> None:
    """Read the padding behind the end, so that whoever sends it can end."""
    size = 0
    while data := stream.read(CHUNK):
        size += len(data)
        if size > MOST_PADDING:
            raise UnsafeContentError("it goes on behind its end")


class _Stage:
    """A directory that is filled member by member."""

    def __init__(
        self, stage: Path, copied: Copied, on_bytes: Callable[[int], None], *, leave_out: bool
    ) -> None:
        self.copied = copied
        self.on_bytes = on_bytes
        self.leave_out = leave_out
        self.root = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # The directory that was opened last, since what is in one comes together.
        self.open: tuple[tuple[str, ...], int] | None = None
        self.folders: list[tuple[tuple[str, ...], int, float]] = []
        self.whole = False

    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, fault: type[BaseException] | None, *_rest: object) -> None:
        try:
            if fault is None:
                self._finish()
        finally:
            self._close()
            os.close(self.root)

    def take(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """Write one member."""
        if self.whole:
            raise UnsafeContentError("a file with something behind it")
        if not self.folders:
            # The first says what it is: a folder, or else one file whose name is ours to give.
            if _parts(member.name) and not member.isreg():
                raise UnsafeContentError(f"{member.name!r} is neither a file nor a folder")
            self.whole = member.isreg()
            parts: tuple[str, ...] = (CONTENT,)
        else:
            parts = (CONTENT, *_parts(member.name))
        if member.isdir():
            self._folder(parts, member)
        elif member.isreg() and not member.issparse():
            self._file(parts, member, archive)
        elif member.issym():
            self._link(parts, member)
        elif member.islnk():
            raise UnsafeContentError(f"{member.name!r} is a second name of {member.linkname!r}")
        else:
            self._omit(f"{member.name} is no file that can be copied")

    def _folder(self, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        with _once(member):
            os.mkdir(parts[-1], 0o700, dir_fd=self._parent(parts))
        self.folders.append((parts, member.mode & _ALLOWED | 0o700, _moment(member)))

    def _file(
        self, parts: tuple[str, ...], member: tarfile.TarInfo, archive: tarfile.TarFile
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with _once(member):
            fd = os.open(parts[-1], flags, 0o600, dir_fd=self._parent(parts))
        try:
            content = archive.extractfile(member)
            while content is not None and (data := content.read(CHUNK)):
                write(fd, data)
                self.copied.size += len(data)
                self.on_bytes(len(data))
            os.fchmod(fd, member.mode & _ALLOWED)
            os.utime(fd, (_moment(member), _moment(member)))
        finally:
            os.close(fd)
        self.copied.files += 1

    def _link(self, parts: tuple[str, ...], member: tarfile.TarInfo) -> None:
        target = member.linkname
        if leads_out(target, len(parts) - 2):
            self._omit(f"{member.name} is a link to {target}, which leads out of the folder")
            return
        with _once(member):
            os.symlink(target, parts[-1], dir_fd=self._parent(parts))
        self.copied.files += 1

    def _omit(self, why: str) -> None:
        if not self.leave_out:
            raise UnsafeContentError(why, hint="--leave-out copies the rest")
        self.copied.left_out.append(why)

    def _parent(self, parts: tuple[str, ...]) -> int:
        """Return the directory that is to hold a member; no link is followed on the way."""
        folder = parts[:-1]
        if not folder:
            return self.root
        if self.open is None or self.open[0] != folder:
            fd = self._descend(folder)
            self._close()
            self.open = (folder, fd)
        return self.open[1]

    def _descend(self, folder: tuple[str, ...]) -> int:
        fd = os.dup(self.root)
        for name in folder:
            try:
                below = os.open(
                    name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd
                )
            except (FileNotFoundError, NotADirectoryError) as error:
                where = "/".join(folder[1:])
                raise UnsafeContentError(f"something in {where!r}, which is no folder") from error
            finally:
                os.close(fd)
            fd = below
        return fd

    def _close(self) -> None:
        if self.open is not None:
            os.close(self.open[1])
            self.open = None

    def _finish(self) -> None:
        """Give the folders their modes and times, which writing into them would have changed."""
        if not self.folders and not self.whole:
            raise UnsafeContentError("there is nothing in it")
        for parts, mode, moment in reversed(self.folders):
            fd = self._descend(parts)
            try:
                os.fchmod(fd, mode)
                os.utime(fd, (moment, moment))
            finally:
                os.close(fd)


@contextmanager
def _once(member: tarfile.TarInfo) -> Iterator[None]:
    """Refuse a member whose place is taken: an honest archive has each name once."""
    try:
        yield
    except FileExistsError as error:
        raise UnsafeContentError(f"{member.name!r} comes twice") from error


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a member's name; none for the folder itself."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts:
        raise UnsafeContentError(f"the name {name!r} leads out of the folder")
    return parts


def leads_out(target: str, depth: int) -> bool:
    """Return whether a link leads out of the tree in which it lies `depth` folders deep.

    `..` behind a name is not looked into: where that leads depends on what the name is.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    up = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    return not target or target.startswith("/") or up > depth or ".." in parts[up:]


def _moment(member: tarfile.TarInfo) -> float:
    """Return when a member was changed last, within what every file system can hold."""
    return min(max(float(member.mtime), 0.0), float(2**32 - 1))
