"""A directory for a while in which programs work on files, within what a task may take."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rave_platform.adapters import commands
from rave_platform.adapters.commands import BARE, CommandError
from rave_platform.application.agents.ports import TaskFailedError
from rave_platform.domain.forge import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rave_platform.adapters.commands import CommandEnd
    from rave_platform.domain.agents.limits import TaskLimits

MIB = 1024 * 1024
# MiB that a program may write into one file.
LARGEST_FILE = 256
# What programs leave behind that nobody wrote.
LEFT = ("__pycache__", ".git", "node_modules")


@contextmanager
def workspace(files: Mapping[str, bytes]) -> Iterator[Path]:
    """Enclose a directory that holds files, and is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rave-work-") as name:
        place = Path(name) / "work"
        place.mkdir()
        for path, data in files.items():
            file = place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        yield place


async def run(
    argv: Sequence[str], place: Path, allowed: TaskLimits, *, given: bytes = b"", **env: str
) -> CommandEnd:
    """Run a program there, which sees nothing of our environment.

    Its memory is what it writes to (RLIMIT_DATA): address space that is only set aside, as
    JavaScript engines do with many GiB, does not count.

    Raises:
        TaskFailedError: if it cannot be started.
    """
    limited = [
        "prlimit", f"--data={allowed.memory_mib * MIB}", f"--fsize={LARGEST_FILE * MIB}",
        "--core=0", f"--cpu={int(allowed.seconds)}", "--", *argv,
    ]  # fmt: skip
    home = {"HOME": str(place.parent), "TMPDIR": str(place.parent)}
    try:
        return await commands.run(
            limited, cwd=place, env={**BARE, **home, "PYTHONDONTWRITEBYTECODE": "1", **env},
            given=given,
        )  # fmt: skip
    except CommandError as fault:
        raise TaskFailedError(str(fault)) from fault


def changed(place: Path, before: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files there that are new or say something else; links are left out.

    Raises:
        TaskFailedError: if it is too much.
    """
    found: dict[str, bytes] = {}
    size = 0
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if name not in LEFT]
        for name in names:
            file = Path(folder, name)
            path = str(file.relative_to(place))
            data = _content(file)
            if data is None or before.get(path) == data:
                continue
            found[path] = data
            size += len(data)
            if size > MOST_BYTES:
                raise TaskFailedError(f"more than {MOST_BYTES} bytes were written")
    return found


def _content(file: Path) -> bytes | None:
    """Return what is in a regular file, at most a little more than can be committed."""
    if not stat.S_ISREG(file.lstat().st_mode):
        return None
    with open(file, "rb", opener=_no_link) as opened:
        return opened.read(MOST_BYTES + 1)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def last_lines(data: bytes, most: int = 600) -> str:
    """Return the end of what a program said, for people."""
    text = data.decode(errors="replace").strip()
    return text if len(text) <= most else "…" + text[-most:]
