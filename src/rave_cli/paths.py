"""Where rave keeps things, and how it writes them: XDG directories, atomic files, locks."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator


def _xdg(variable: str, fallback: str) -> Path:
    """Return an XDG base directory; relative values are ignored, as the specification demands."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback


def config_dir() -> Path:
    """Return `$XDG_CONFIG_HOME/rave`."""
    return _xdg("XDG_CONFIG_HOME", ".config") / "rave"


def data_dir() -> Path:
    """Return `$XDG_DATA_HOME/rave`: the machines."""
    return _xdg("XDG_DATA_HOME", ".local/share") / "rave"


def state_dir() -> Path:
    """Return `$XDG_STATE_HOME/rave`: GC roots and other things worth keeping between runs."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "rave"


def cache_dir() -> Path:
    """Return `$XDG_CACHE_HOME/rave`: everything here can be made again."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "rave"


def runtime_dir() -> Path:
    """Return the directory of sockets: `$XDG_RUNTIME_DIR/rave`, or a private one under /tmp.

    Without a login session there is no XDG_RUNTIME_DIR; the substitute carries the user's id and
    is checked by `private_dir` before use.
    """
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    if value.startswith("/"):
        return Path(value) / "rave"
    run_user = Path(f"/run/user/{os.getuid()}")
    return run_user / "rave" if run_user.is_dir() else Path(f"/tmp/rave-{os.getuid()}")  # noqa: S108 - private_dir refuses one that is not ours


def private_dir(path: Path) -> Path:
    """Create `path` (mode 0700) if needed and return it.

    Raises:
        RaveError: HOST if it is a symlink, belongs to somebody else or others may enter it.
    """
    with refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RaveError(
            f"{path} is not a directory of yours",
            hint=f"ls -ld {path}; then move it out of the way",
            exit_code=ExitCode.HOST,
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    The data goes to a temporary file in the same directory, is fsynced, renamed over `path`, and
    the directory is fsynced.

    Raises:
        RaveError: HOST if the disk is full or the place cannot be written.
    """
    with refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(fd, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Make a rename in `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_private(path: Path) -> bytes:
    """Read a key file, refusing what OpenSSH would refuse too: a symlink, another owner, group or
    other permission bits.

    Raises:
        RaveError: SECRETS if the file must not be trusted; HOST if it cannot be read.
    """
    with refusing(path):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RaveError(
                    f"{path} is a symbolic link; a key file must not be one",
                    hint=f'cp --remove-destination "$(readlink -f {path})" {path}',
                    exit_code=ExitCode.SECRETS,
                ) from error
            raise
        with os.fdopen(fd, "rb") as stream:
            found = os.fstat(fd)
            if found.st_uid != os.getuid():
                raise RaveError(
                    f"{path} belongs to another user",
                    hint=f"chown {os.getuid()} {path}",
                    exit_code=ExitCode.SECRETS,
                )
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise RaveError(
                    f"{path} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})",
                    hint=f"chmod 600 {path}",
                    exit_code=ExitCode.SECRETS,
                )
            return stream.read()


@contextmanager
def lock(path: Path, *, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on `path` (created, mode 0600).

    The kernel drops it when the process ends, however it ends.

    Raises:
        RaveError: HOST with the message `busy` if another process holds it.
    """
    with refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RaveError(
                busy, hint="wait for the other command to end", exit_code=ExitCode.HOST
            ) from error
        yield
    finally:
        os.close(fd)


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn an OSError about `path` into a RaveError that says what to do."""
    try:
        yield
    except OSError as error:
        raise os_fault(error, path) from error


def os_fault(error: OSError, path: Path | str | None = None) -> RaveError:
    """Describe an OSError as a RaveError (HOST)."""
    place = path or error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RaveError(
            f"no space left for {place}",
            hint=f"df -h {Path(str(place)).parent}; rave vm list shows machines you may delete",
            exit_code=ExitCode.HOST,
        )
    return RaveError(
        f"{place}: {error.strerror or error}",
        hint="rave doctor",
        exit_code=ExitCode.HOST,
    )
