"""Editing the secrets file: plaintext exists in a private directory in memory, and briefly."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import policy, store, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rave_cli.secrets.identity import Keys

_PREFIX = "rave-edit-"
_IN_MEMORY = {"tmpfs", "ramfs"}
_VIM = ("vim", "nvim", "gvim")
# No swap file, no backup, no undo file, no memory of registers: those may lie on a disk.
_VIM_OPTIONS = ("-n", "-i", "NONE", "--cmd", "set nobackup nowritebackup noswapfile noundofile")


def edit(
    file: Path,
    keys: Keys,
    *,
    editor: Callable[[Path], None],
    again: Callable[[str], bool],
) -> bool:
    """Let `editor` change the plaintext, then replace the file; return whether it changed.

    Args:
        file: the secrets file.
        keys: the operator's keys.
        editor: changes the file it is given and returns.
        again: told what is wrong with the edited text; true opens the editor once more.

    Raises:
        RaveError: SECRETS if the file cannot be opened or the text stays wrong; the file is then
            as it was. HOST if there is no place in memory.
    """
    allowed = policy.load(file)
    with store.locked(file):
        before = store.decrypt(store.read(file), keys, output="yaml")
        after, values = _edited(before, editor, again)
        if after == before:
            return False
        store.replace(file, store.seal_text(after, "yaml", values, allowed, keys), allowed)
    return True


def reencrypt(file: Path, keys: Keys) -> None:
    """Write the file anew for the policy's recipients, with a new data key.

    Raises:
        RaveError: as `edit`.
    """
    allowed = policy.load(file)
    with store.locked(file):
        text = store.decrypt(store.read(file), keys, output="yaml")
        values = _document(text)
        store.replace(file, store.seal_text(text, "yaml", values, allowed, keys), allowed)


def launch_editor(path: Path) -> None:
    """Open a file in the user's editor and wait.

    Raises:
        RaveError: HOST if there is no editor; SECRETS if it ends with an error.
    """
    status = process.foreground([*editor_argv(), path])
    if status:
        raise RaveError(
            f"the editor ended with status {status}; nothing was changed",
            hint="EDITOR=nano rave secrets edit",
            exit_code=ExitCode.SECRETS,
        )


def editor_argv() -> tuple[str, ...]:
    """Return the command of the user's editor: VISUAL, EDITOR, else the first one installed.

    Raises:
        RaveError: HOST if there is none.
    """
    given = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    installed = (tool for tool in ("sensible-editor", "vim", "vi", "nano") if process.find(tool))
    words = shlex.split(given) or [next(installed, "")]
    found = process.find(words[0])
    if found is None:
        raise RaveError(
            f"there is no editor {words[0] or 'on PATH'}",
            hint="EDITOR=/path/to/editor rave secrets edit",
            exit_code=ExitCode.HOST,
        )
    # `vi` and `editor` are links to what they really are.
    real = {Path(found).name, Path(found).resolve().name.split(".")[0]}
    return (*words, *(_VIM_OPTIONS if real & set(_VIM) else ()))


@contextmanager
def memory_dir() -> Iterator[Path]:
    """Hold a directory (0700) on a file system in memory; it is removed however this ends.

    A directory that a killed process left behind is removed first.

    Raises:
        RaveError: HOST if no place in memory can be written.
    """
    base = _memory_base()
    _sweep(base)
    place = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Tells _sweep of another process that this one is in use; the kernel drops it with us.
        fcntl.flock(fd, fcntl.LOCK_EX)
        with _unwinding():
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(fd)


def _edited(
    before: bytes, editor: Callable[[Path], None], again: Callable[[str], bool]
) -> tuple[bytes, dict[str, str]]:
    with memory_dir() as place:
        path = place / "secrets.yaml"
        path.touch(mode=0o600)
        path.write_bytes(before)
        while True:
            editor(path)
            with paths.refusing(path):
                after = path.read_bytes()
            try:
                return after, store.document_names(after)
            except tree.TreeError as fault:
                if not again(str(fault)):
                    raise _wrong(str(fault)) from fault


def _document(text: bytes) -> dict[str, str]:
    try:
        return store.document_names(text)
    except tree.TreeError as fault:
        raise _wrong(str(fault)) from fault


def _wrong(why: str) -> RaveError:
    return RaveError(
        f"the edited text cannot be used, nothing was changed: {why}",
        hint="rave secrets edit",
        exit_code=ExitCode.SECRETS,
    )


def _memory_base() -> Path:
    candidates = [Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent"), Path("/dev/shm")]  # noqa: S108 - a new private directory is made in it
    for base in candidates:
        if base.is_dir() and os.access(base, os.W_OK | os.X_OK) and _type(base) in _IN_MEMORY:
            return base
    raise RaveError(
        "there is no file system in memory to hold the plaintext (XDG_RUNTIME_DIR, /dev/shm)",
        hint="mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
        exit_code=ExitCode.HOST,
    )


def _type(path: Path) -> str:
    """Return the type of the file system that holds `path`."""
    number = path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == device:
            return fields[fields.index("-") + 1]
    return "unknown"


def _sweep(base: Path) -> None:
    for left in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(fd).st_uid == os.getuid():
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left)
            finally:
                os.close(fd)


@contextmanager
def _unwinding() -> Iterator[None]:
    """Turn the signals that would end us at once into an exception, so that clean-up runs."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    old = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
