"""/run/secrets: plain secrets in memory only, one generation in force, replaced in one step.

The layout is that of sops-nix: a ramfs on /run/secrets.d with one directory per generation, and
/run/secrets as a symbolic link to the one in force.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections import namedtuple
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DIRECTORY_MODE = 0o751
# linux/mount.h
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8


class Place(namedtuple("Place", ("root", "link"))):
    """Where generations lie and which link names the one in force."""

    __slots__ = ()
    root: str
    link: str


class SecretFile(namedtuple("SecretFile", ("value", "owner", "mode"))):
    """A file of a generation: its content, the account that owns it, its mode."""

    __slots__ = ()
    value: bytes
    owner: str
    mode: int


def current(place: Place) -> str | None:
    """Return the directory of the generation in force, or None."""
    try:
        path = os.path.join(os.path.dirname(place.link), os.readlink(place.link))
    except OSError:
        return None
    return path if os.path.isdir(path) else None


def read(directory: str | None) -> dict[str, bytes]:
    """Return the content of every file of a generation by name."""
    found: dict[str, bytes] = {}
    if directory is None:
        return found
    for parent, _, files in os.walk(directory):
        for file in files:
            path = os.path.join(parent, file)
            with open(path, "rb") as stream:
                found[os.path.relpath(path, directory)] = stream.read()
    return found


def write(place: Place, entries: Mapping[str, SecretFile]) -> str:
    """Write a new generation, not yet in force, and return its directory.

    Raises:
        OSError: if it cannot be written; what was written of it is removed.
    """
    _mount(place.root)
    directory = os.path.join(place.root, str(max(_numbers(place), default=0) + 1))
    try:
        _make_directory(directory)
        for name, entry in entries.items():
            _write_file(directory, name, entry)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return directory


def enforce(place: Place, directory: str | None) -> None:
    """Put a generation in force, or none at all."""
    if directory is None:
        if os.path.lexists(place.link):
            os.unlink(place.link)
        return
    temporary = f"{place.link}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(directory, temporary)
    os.rename(temporary, place.link)


def keep_only(place: Place, directory: str | None) -> None:
    """Remove every generation but one."""
    for number in _numbers(place):
        path = os.path.join(place.root, str(number))
        if path != directory:
            shutil.rmtree(path)


def account(owner: str) -> tuple[int, int]:
    """Return user and group id of an account; root's where the base has no such account."""
    try:
        found = pwd.getpwnam(owner)
    except KeyError:
        return 0, 0
    return found.pw_uid, found.pw_gid


def _numbers(place: Place) -> list[int]:
    return [int(name) for name in os.listdir(place.root) if name.isdigit()]


def _write_file(directory: str, name: str, entry: SecretFile) -> None:
    parts = name.split("/")
    if not all(parts) or set(parts) & {".", ".."}:
        raise ValueError(f"{name!r} cannot be the name of a secret")
    for depth in range(1, len(parts)):
        parent = os.path.join(directory, *parts[:depth])
        if not os.path.isdir(parent):
            _make_directory(parent)
    fd = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0)
    with os.fdopen(fd, "wb") as stream:
        stream.write(entry.value)
        os.fchown(fd, *account(entry.owner))
        os.fchmod(fd, entry.mode)


def _make_directory(path: str) -> None:
    with _umask(0):
        os.mkdir(path, DIRECTORY_MODE)


def _mount(root: str) -> None:
    if os.path.ismount(root):
        return
    # mount(8) would be one more program to start; ramfs is never swapped out.
    import ctypes

    os.makedirs(root, DIRECTORY_MODE, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _NOSUID | _NODEV | _NOEXEC
    if libc.mount(b"ramfs", root.encode(), b"ramfs", flags, b"mode=0751"):
        raise OSError(ctypes.get_errno(), f"cannot mount a ramfs on {root}")


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
