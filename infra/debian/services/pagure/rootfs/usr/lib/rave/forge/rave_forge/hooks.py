"""Runs the hooks of repositories: at once, by what has loaded all of Pagure already, or alone.

`python3 -I /usr/lib/rave/forge hooks NAME` loads all of Pagure and is that hook. That takes a
second of a processor, ten and more under emulation, and a push is two hooks. So the web process
leaves a copy of itself behind when it starts (`keep`), which makes a copy of itself for each hook.
git's own program (../hooks/hook) hands that one its terminals, its environment and where it is, and
ends as it ends.

What is sent over the socket: the descriptors 0, 1 and 2 (SCM_RIGHTS, unix(7)), and words that end
with NUL, up to the end of what the caller sends: the hook's name, its directory, its environment.
What is answered, when the descriptors are closed: the exit status in decimal. No answer means that
it did not come to an end.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from pagure.hooks import run_hook_file
from pagure.lib import git_auth, plugins
from pagure.utils import set_up_logging
from sqlalchemy.orm import configure_mappers

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET = Path("/run/pagure/hooks")
BACKLOG = 64
# A caller has its words ready.
PATIENCE = 30.0  # seconds
MOST = 1 << 20  # bytes


def main(name: str) -> None:
    """Be a hook: end as it ends."""
    set_up_logging()
    run_hook_file(name)


def keep(place: Path = SOCKET) -> None:
    """Leave a copy of this process behind that runs hooks. It has one thread and no connection yet.

    Where there is no directory for its socket, or the copy has ended, each hook is run alone.
    """
    if not place.parent.is_dir():
        return
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(place))
        listening.listen(BACKLOG)
        _load()
        # What the collector does not walk through stays the same memory in all copies.
        gc.freeze()
        _flush()
        if os.fork() == 0:
            _be(serve, listening)


def _load() -> None:
    """Work out what each hook would."""
    set_up_logging()
    git_auth.get_git_auth_helper()
    plugins.get_plugin_names()
    configure_mappers()


def serve(listening: socket.socket) -> None:
    """Make a process for each that comes; nobody waits for another."""
    # Whoever has ended is gone, without being asked for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listening.accept()
        # Where there is no room for another process, it goes without an answer.
        with connection, suppress(OSError):
            if os.fork() == 0:
                _be(answer, connection)


def answer(connection: socket.socket) -> None:
    """Be the hook that is asked for, and tell how it ended.

    Raises:
        ValueError: it is none.
    """
    # A hook waits for programs of its own.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.settimeout(PATIENCE)
    name, place, environment = take(connection)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [name]
    sys.stdin, sys.stdout, sys.stderr = map(_stream, range(3))
    status = _status(name)
    _flush()
    # git reads from them until nobody has them any more.
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    connection.sendall(str(status).encode())


def take(connection: socket.socket) -> tuple[str, str, dict[str, str]]:
    """Take over the descriptors of a caller; return name, directory and environment of its hook.

    Raises:
        ValueError: it is no hook.
    """
    said, numbers, _, _ = socket.recv_fds(connection, MOST, 3)
    while more := connection.recv(MOST):
        said += more
        if len(said) > MOST:
            raise ValueError("a hook's environment is too large")
    words = [os.fsdecode(word) for word in said.split(b"\0")[:-1]]
    if len(numbers) != 3 or len(words) < 2:
        raise ValueError("a hook is cut short")
    for number, taken in enumerate(numbers):
        os.dup2(taken, number)
        os.close(taken)
    name, place, *pairs = words
    return name, place, dict(pair.split("=", 1) for pair in pairs)


def _stream(number: int) -> TextIO:
    binary = io.FileIO(number, "w" if number else "r", closefd=False)
    buffered = io.BufferedWriter(binary) if number else io.BufferedReader(binary)
    return io.TextIOWrapper(buffered, encoding="utf-8", errors="surrogateescape")


def _status(name: str) -> int:
    """Run a hook; return what a process would exit with."""
    try:
        run_hook_file(name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except Exception:  # noqa: BLE001 - as Python ends
        traceback.print_exc()
        return 1
    return 0


def _be(do: Callable[[socket.socket], None], channel: socket.socket) -> NoReturn:
    """Do something, and end: nothing that is of the process which was copied is put away."""
    try:
        do(channel)
    except Exception:  # noqa: BLE001 - there is nobody whom it could reach
        traceback.print_exc()
    finally:
        _flush()
        os._exit(0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # Whoever should read it may be gone; what was to be done is done.
        with suppress(OSError):
            stream.flush()
