"""The text while it is edited: in memory, private, and kept if it could not be put into the file.

A draft is a directory (0700) on a file system in memory with the text and a note of what it belongs
to. It goes away once the text is in the secrets file or was not changed. If anything else ends the
edit, a killed process included, it stays, and the next edit of the same file finds it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "rave-edit-"
TEXT = "secrets.yaml"
NOTE = "about.json"
_IN_MEMORY = {"tmpfs", "ramfs"}


@dataclass(frozen=True)
class KeptDraft:
    """A text that an earlier edit left. `outdated`: the secrets file has changed since."""

    directory: Path
    saved: datetime
    outdated: bool


@contextmanager
def held(
    file: Path, sealed: bytes, before: bytes, resume: Callable[[KeptDraft], bool]
) -> Iterator[Path]:
    """Hold the text to edit in memory; yields its path.

    Args:
        file: the secrets file.
        sealed: its encrypted content.
        before: its plaintext, which the text begins with.
        resume: told of a text that an earlier edit left; true goes on with it, false throws it
            away.

    Raises:
        RaveError: HOST if no place in memory can be written. One that leaves the block says in its
            detail that the text is kept, if it is; so does a signal, which becomes one
            (INTERRUPTED).
    """
    directory = next((kept.directory for kept in find(file, sealed) if _wanted(kept, resume)), None)
    with signals.held() as hold:
        place = directory or _begin(file, sealed, before)
        lock = _lock(place)
        try:
            with hold.released():
                yield place / TEXT
        except RaveError as error:
            error.detail = (*error.detail, *_left(place))
            raise
        except KeyboardInterrupt as interruption:
            if not (detail := _left(place)):
                raise
            raise RaveError(
                "the edit was interrupted; nothing was changed",
                hint="rave secrets edit",
                exit_code=ExitCode.INTERRUPTED,
                detail=detail,
            ) from interruption
        except BaseException:
            _left(place)
            raise
        else:
            shutil.rmtree(place, ignore_errors=True)
        finally:
            os.close(lock)


def find(file: Path, sealed: bytes | None = None) -> list[KeptDraft]:
    """Return the texts that edits of a secrets file left; empty or unchanged ones are removed.

    Args:
        file: the secrets file.
        sealed: its encrypted content; None leaves open whether a text is outdated.
    """
    digest = None if sealed is None else _digest(sealed)
    found = []
    for place in _abandoned():
        note = _note(place)
        if note is None or not _typed(place):
            shutil.rmtree(place, ignore_errors=True)
        elif note["file"] == str(file.absolute()):
            text = _newest(place)
            text.rename(place / TEXT)
            saved = datetime.fromtimestamp((place / TEXT).stat().st_mtime, UTC)
            found.append(KeptDraft(place, saved, digest not in {None, note["sealed"]}))
    return sorted(found, key=lambda kept: kept.saved, reverse=True)


def discard(file: Path) -> int:
    """Remove the texts that edits of a secrets file left; return how many there were."""
    kept = find(file)
    for one in kept:
        shutil.rmtree(one.directory, ignore_errors=True)
    return len(kept)


def _wanted(kept: KeptDraft, resume: Callable[[KeptDraft], bool]) -> bool:
    if resume(kept):
        return True
    shutil.rmtree(kept.directory, ignore_errors=True)
    return False


def _begin(file: Path, sealed: bytes, before: bytes) -> Path:
    base = _bases()[0]
    with paths.refusing(base):
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    try:
        note = {"file": str(file.absolute()), "sealed": _digest(sealed), "text": _digest(before)}
        paths.atomic_write(place / NOTE, json.dumps(note).encode(), mode=0o600)
        paths.atomic_write(place / TEXT, before, mode=0o600)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place


def _left(place: Path) -> tuple[str, ...]:
    """Keep a text that differs from what the editor was given, and say so; remove any other."""
    if not _typed(place):
        shutil.rmtree(place, ignore_errors=True)
        return ()
    return (
        f"what you typed is kept in memory, in {place}: rave secrets edit opens it again,",
        "rave secrets edit --discard throws it away",
    )


def _abandoned() -> Iterator[Path]:
    """Yield the directories of ours that no running edit holds."""
    for base in _bases():
        for place in base.glob(f"{PREFIX}*"):
            with suppress(OSError):
                lock = _lock(place)
                try:
                    mine = os.fstat(lock)
                    # A directory without a note may be one that is being made just now.
                    fresh = datetime.now(UTC).timestamp() - mine.st_mtime < 60
                    if mine.st_uid == os.getuid() and not (fresh and not (place / NOTE).exists()):
                        yield place
                finally:
                    os.close(lock)


def _lock(place: Path) -> int:
    """Take the lock of a draft: the kernel drops it with its process, however that ends."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _note(place: Path) -> dict[str, str] | None:
    try:
        note = json.loads((place / NOTE).read_bytes())
    except (OSError, ValueError):
        return None
    valid = isinstance(note, dict) and {"file", "sealed", "text"} <= set(note)
    return note if valid else None


def _typed(place: Path) -> bool:
    """Whether there is a text that differs from what the editor was given."""
    note = _note(place)
    try:
        return note is not None and _digest(_newest(place).read_bytes()) != note["text"]
    except OSError:
        return False


def _newest(place: Path) -> Path:
    """Return the file written last: an editor that was killed may have saved beside the text."""
    written = {
        path: path.lstat()
        for path in place.iterdir()
        if path.name != NOTE and stat.S_ISREG(path.lstat().st_mode)
    }
    return max(written, key=lambda path: written[path].st_mtime_ns, default=place / TEXT)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bases() -> list[Path]:
    """Return the places in memory that can be used, the best first.

    All of them are searched: the next edit may be started from another session.

    Raises:
        RaveError: HOST if there is none.
    """
    candidates = [
        paths.runtime_dir().parent,
        Path(f"/run/user/{os.getuid()}"),
        Path("/dev/shm"),  # noqa: S108 - a new private directory is made in it
    ]
    found = [base for base in dict.fromkeys(candidates) if _usable(base)]
    if not found:
        raise RaveError(
            "there is no file system in memory to hold the plaintext (XDG_RUNTIME_DIR, /dev/shm)",
            hint="mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
            exit_code=ExitCode.HOST,
        )
    return found


def _usable(base: Path) -> bool:
    return base.is_dir() and os.access(base, os.W_OK | os.X_OK) and _type(base) in _IN_MEMORY


def _type(path: Path) -> str:
    """Return the type of the file system that holds `path`."""
    number = path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == device:
            return fields[fields.index("-") + 1]
    return "unknown"
