"""Where rave keeps things, and how it reads and writes them.

One rule says whose a file must be (`read_trusted`, `read_private`), so that nobody else steers us:
it is ours or root's, and nobody else may write it. What we make gets an explicit mode; the umask
can only take from that.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import re
import select
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPE_PATIENCE = 10.0  # seconds in which somebody must write into a pipe that we are to read
_LARGEST_PIPE = 1 << 20
_COPIED_AT_ONCE = 64 << 20
_READ_AT_ONCE = 1 << 20
# What copy_file_range(2) says where it cannot copy from the one file to the other.
_NOT_SHARED = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
_HANDED = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/(\d+)")


def _xdg(variable: str, fallback: str) -> Path:
    """Return an XDG base directory; relative values are ignored, as the specification demands."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback


def working_dir() -> Path | None:
    """Return the working directory; None if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


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
    if os.environ.get("XDG_RUNTIME_DIR", "").startswith("/") or session_dir().is_dir():
        return session_dir() / "rave"
    return Path(f"/tmp/rave-{os.getuid()}")  # noqa: S108 - private_dir refuses one that is not ours


def session_dir() -> Path:
    """Return `$XDG_RUNTIME_DIR`, or where logind has it; a relative value is ignored."""
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(value if value.startswith("/") else f"/run/user/{os.getuid()}")


def private_dir(path: Path) -> Path:
    """Create `path` (mode 0700) if needed and return it.

    Raises:
        RaveError: HOST if it is a symlink, belongs to somebody else or others may enter it.
    """
    make_dir(path.parent)
    with refusing(path):
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


def make_dir(path: Path, *, mode: int = 0o700) -> Path:
    """Create `path` and what is missing above it with `mode`, and return it.

    What exists stays as it is. (`Path.mkdir` gives its mode to the last directory only.)

    Raises:
        RaveError: HOST if a directory cannot be created, or something else lies in its place.
    """
    with refusing(path):
        missing = [place for place in (path, *path.parents) if not place.is_dir()]
        for place in reversed(missing):
            # Another command may be making the same one.
            with suppress(FileExistsError):
                place.mkdir(mode=mode)
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)
    return path


def refuse_device(path: Path) -> None:
    """Refuse to put a file in the place of what is, or leads to, a device, a pipe or a socket: to
    root's `-o /dev/stdout` that would be gone.

    Raises:
        RaveError: USAGE.
    """
    with refusing(path):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RaveError(
                f"{path} is neither a file nor a folder, and a file would take its place",
                hint="name a file; where - is one, it is standard output",
                exit_code=ExitCode.USAGE,
            )


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    The data goes to a temporary file in the same directory, is fsynced, renamed over `path`, and
    the directory is fsynced. Missing directories are made; others can enter them if they may read
    the file.

    Raises:
        RaveError: HOST if the disk is full or the place cannot be written; USAGE if there is a
            device or a pipe.
    """
    refuse_device(path)
    make_dir(path.parent, mode=0o755 if mode & 0o044 else 0o700)
    with refusing(path):
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


def copy_private(source: Path, target: Path) -> None:
    """Copy a file to a new one that is ours alone (mode 0600), and sync that; blocks are shared
    where the file system can (copy_file_range(2), which copies nothing from one kind of file system
    to another).

    Raises:
        RaveError: HOST if the disk is full, or the target is there already.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with refusing(target), source.open("rb") as given:
        fd = os.open(target, flags, 0o600)
        try:
            try:
                while os.copy_file_range(given.fileno(), fd, _COPIED_AT_ONCE):
                    pass
            except OSError as error:
                if error.errno not in _NOT_SHARED:
                    raise
                with open(fd, "wb", closefd=False) as new:
                    shutil.copyfileobj(given, new, _READ_AT_ONCE)
            os.fsync(fd)
        finally:
            os.close(fd)


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

    A pipe, named or handed over by the shell as in `<(pass show key)`, is a key file, too; it can
    be read once.

    Raises:
        RaveError: SECRETS if the file must not be trusted, or nobody writes into the pipe within
            PIPE_PATIENCE; HOST if it cannot be read.
    """
    with refusing(path):
        fd = _open_key(path)
        try:
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
            if stat.S_ISFIFO(found.st_mode):
                return _read_pipe(fd, path, ExitCode.SECRETS)
            if not stat.S_ISREG(found.st_mode):
                raise _no_file(path, ExitCode.SECRETS)
            return _read_all(fd)
        finally:
            os.close(fd)


def read_trusted(path: Path, *, exit_code: ExitCode = ExitCode.HOST) -> bytes:
    """Read a file that steers us but holds no secret: settings, a policy, a record.

    Symbolic links are followed; the link itself must be trusted, too. A pipe that the shell hands
    over, as in `<(git show origin/main:policy.yaml)`, is read to its end.

    Raises:
        RaveError: `exit_code` if it is not a file, somebody else may have written it, or nobody
            writes into the pipe within PIPE_PATIENCE; HOST if it cannot be read.
    """
    handed = _HANDED.fullmatch(str(path))
    with refusing(path):
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write.
        fd = (
            os.dup(int(handed[1] or 0))
            if handed
            else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        )
        try:
            found = os.fstat(fd)
            if handed and stat.S_ISFIFO(found.st_mode):
                require_trusted(path, found, exit_code=exit_code)
                return _read_pipe(fd, path, exit_code)
            if not stat.S_ISREG(found.st_mode):
                raise _no_file(path, exit_code)
            require_trusted(path, found, exit_code=exit_code)
            return _read_all(fd)
        finally:
            os.close(fd)


def require_trusted(
    path: Path, found: os.stat_result | None = None, *, exit_code: ExitCode = ExitCode.HOST
) -> None:
    """Refuse a file or directory unless only we and root can have put it there and changed it.

    Args:
        path: what is asked about; its own directory must be trusted, too.
        found: what fstat said of it, if it is open already.
        exit_code: of the error.

    Raises:
        RaveError: `exit_code`, with the command that mends it; HOST if it cannot be examined.
    """
    with refusing(path):
        link, place = path.lstat(), path.absolute().parent
        asked = [(path, found or path.stat()), (place, place.stat())]
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.getuid()):
        asked.insert(0, (path, link))
    for where, status in asked:
        fault = _distrust(where, status)
        if fault is not None:
            why, hint = fault
            raise RaveError(f"{where} {why}, so rave does not use {path}", hint=hint,
                            exit_code=exit_code)  # fmt: skip


def _distrust(path: Path, found: os.stat_result) -> tuple[str, str] | None:
    """Return why others can steer us through `path` and what mends that, or None."""
    if found.st_uid not in (0, os.getuid()):
        owner = _name_of(found.st_uid)
        return f"belongs to {owner}", f"if you trust what is in it: chown {os.getuid()} {path}"
    # In a sticky directory, such as /tmp, nobody can replace what belongs to another.
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return None
    mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if found.st_mode & stat.S_IWOTH:
        return f"can be changed by anybody ({mode})", f"chmod go-w {path}"
    if found.st_mode & stat.S_IWGRP and not _own_group(found):
        return f"can be changed by its group ({mode})", f"chmod go-w {path}"
    return None


def _own_group(found: os.stat_result) -> bool:
    """Whether the group is its owner's alone, as on systems that give each user one."""
    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    same = (owner.pw_gid, owner.pw_name) == (group.gr_gid, group.gr_name)
    return same and set(group.gr_mem) <= {owner.pw_name}


def _name_of(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user number {uid}"


def _open_key(path: Path) -> int:
    """Open a key file without following links and without waiting for a pipe's writer."""
    handed = _HANDED.fullmatch(str(path))
    if handed is not None:
        # A descriptor that the shell opened for us, not a link like others.
        return os.dup(int(handed[1] or 0))
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RaveError(
                f"{path} is a symbolic link; a key file must not be one",
                hint=f'cp --remove-destination "$(readlink -f {path})" {path}',
                exit_code=ExitCode.SECRETS,
            ) from error
        raise


def _read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb", closefd=False) as stream:
        return stream.read()


def _read_pipe(fd: int, path: Path, exit_code: ExitCode) -> bytes:
    """Read a pipe to its end, for PIPE_PATIENCE at most."""
    data, deadline = b"", time.monotonic() + PIPE_PATIENCE
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    while waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
        part = os.read(fd, 65536)
        data += part
        if not part:
            return data
        if len(data) > _LARGEST_PIPE:
            raise RaveError(
                f"{path} is a pipe with more than {_LARGEST_PIPE >> 20} MiB in it",
                hint="name a file",
                exit_code=exit_code,
            )
    raise RaveError(
        f"{path} is a pipe, and within {PIPE_PATIENCE:g} s nobody wrote into it to the end",
        hint="start what writes into it first, or name a file",
        exit_code=exit_code,
    )


def _no_file(path: Path, exit_code: ExitCode) -> RaveError:
    return RaveError(f"{path} is not a file", hint=f"ls -ld {path}", exit_code=exit_code)


@contextmanager
def lock(path: Path, *, busy: str | None) -> Iterator[None]:
    """Hold an exclusive lock on `path` (created, mode 0600).

    The kernel drops it when the process ends, however it ends.

    Raises:
        RaveError: HOST with the message `busy` if another process holds it; without one this waits.
    """
    make_dir(path.parent)
    with refusing(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise RaveError(
                busy or "", hint="wait for the other command to end", exit_code=ExitCode.HOST
            ) from error
        try:
            yield
        finally:
            # Closing is not enough: what another thread is about to start has a copy until it does.
            fcntl.flock(fd, fcntl.LOCK_UN)
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
    if error.errno == errno.ENOENT and not Path(str(place)).is_absolute() and not working_dir():
        return RaveError(
            "the working directory is gone",
            hint="cd to one that exists",
            exit_code=ExitCode.HOST,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RaveError(
            f"{place}: {error.strerror}",
            hint=f"ls -ld {place}; findmnt -T {place}   (another place, or another user?)",
            exit_code=ExitCode.HOST,
        )
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
