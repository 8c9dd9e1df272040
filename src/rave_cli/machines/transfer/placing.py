"""Where a copy lands on this host: a stage beside its target, and then its place."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.transfer.content import CONTENT

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGE = ".rave-cp."

# Seconds after which a stage that nobody holds is one of a copy that was killed.
SETTLED = 60.0


def landing(target: str, name: str) -> Path:
    """Return what something called `name` is called at a target of this host: in it, if that is a
    folder.

    Raises:
        RaveError: USAGE if there is no such folder, or what is there is a device, pipe or socket.
    """
    place = Path(target)
    with paths.refusing(place):
        if place.is_dir():
            place = place / name if name else place
        elif target.endswith("/"):
            raise _no_folder(place)
        if not place.absolute().parent.is_dir():
            raise _no_folder(place.parent)
        paths.refuse_device(place)
    return place


def existing(source: str) -> Path:
    """Return a file or folder of this host.

    Raises:
        RaveError: USAGE if there is none.
    """
    place = Path(source)
    with paths.refusing(place):
        if place.is_dir() or place.is_file():
            return place
    raise RaveError(
        f"{source} is neither a file nor a folder of this host",
        hint=f"ls -ld {source}; a path of a machine is NAME:PATH",
        exit_code=ExitCode.USAGE,
    )


def _no_folder(place: Path) -> RaveError:
    return RaveError(
        f"there is no folder {place}", hint=f"mkdir -p {place}", exit_code=ExitCode.USAGE
    )


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside a target; it is removed in the end, and with it those of
    copies that were killed.
    """
    parent = target.absolute().parent
    with signals.held() as hold:
        with paths.refusing(parent):
            stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=parent))
            fd = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            _sweep(parent)
            with hold.released():
                yield stage
        finally:
            os.close(fd)
            with suppress(OSError):
                shutil.rmtree(stage)


def _sweep(parent: Path) -> None:
    """Remove the stages of copies that were killed: nobody holds them. A new one is left alone:
    whoever has just made it may have yet to lock it.
    """
    for left in parent.glob(f"{STAGE}*"):
        with suppress(OSError):
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = os.fstat(fd)
                if found.st_uid == os.getuid() and time.time() - found.st_mtime > SETTLED:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left)
            finally:
                os.close(fd)


def place(stage: Path, target: Path, *, folder: bool) -> None:
    """Put what is in a stage where it belongs. A file takes the place of another at once; a folder
    that is there keeps what else it holds, and gets each file at once.

    Raises:
        RaveError: USAGE if a file would have to take the place of a folder, or the other way; HOST
            if it cannot be written.
    """
    content = stage / CONTENT
    with paths.refusing(target):
        if not folder or not os.path.lexists(target):
            _replace(content, target)
            paths.sync_dir(target.parent)
            return
        for below, folders, files in os.walk(content):
            where = target.joinpath(os.path.relpath(below, content))
            for name in list(folders):
                source = Path(below, name)
                if source.is_symlink() or not os.path.lexists(where / name):
                    # A folder that is not there yet comes as a whole.
                    folders.remove(name)
                    _replace(source, where / name)
                elif not stat.S_ISDIR((where / name).lstat().st_mode):
                    raise _in_the_way(where / name)
            for name in files:
                _replace(Path(below, name), where / name)


def _replace(source: Path, target: Path) -> None:
    """Rename over whatever is there, unless that is a folder, or no file."""
    paths.refuse_device(target)
    try:
        source.replace(target)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise _in_the_way(target) from error


def _in_the_way(target: Path) -> RaveError:
    return RaveError(
        f"{target} is in the way: one of it and what is copied is a folder, the other is not",
        hint=f"ls -ld {target}",
        exit_code=ExitCode.USAGE,
    )
