"""Runs rave in processes of its own at the cost of a fork: for tests that walk every command.

A server that has imported everything forks for each request, so that what a process is given
(streams, working directory, arguments of any bytes) is real, and its start is not paid each time.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rave_cli
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLOSED = "closed"


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed to streams that were not given away."""

    code: int
    out: bytes
    err: bytes


class Forks:
    """Rave as it can be called; `prefix` starts the server, such as with setpriv, and `env` is what
    is special about its environment.

    The rest of that goes with each request, so that one server serves many tests.
    """

    def __init__(self, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self._env = dict(env or {})
        self._server = _server(tuple(prefix), tuple(self._env.items()))

    def __call__(
        self, *words: str, cwd: Path | str, streams: Mapping[int, str] | None = None
    ) -> Done:
        """Run rave.

        Args:
            words: its arguments; bytes that are not UTF-8 as surrogates.
            cwd: working directory; one that is gone is left as the server of this test found it.
            streams: what a standard stream is instead: a path, or CLOSED.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            files = {0: "/dev/null", 1: f"{place}/out", 2: f"{place}/err", **dict(streams or {})}
            env = dict(os.environ) | self._env
            request = {"argv": list(words), "cwd": str(cwd), "streams": files, "env": env}
            self._server.stdin.write(json.dumps(request).encode() + b"\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            out, err = (Path(place, name) for name in ("out", "err"))
            return Done(
                code,
                out.read_bytes() if out.exists() else b"",
                err.read_bytes() if err.exists() else b"",
            )


@cache
def _server(prefix: tuple[str, ...], env: tuple[tuple[str, str], ...]) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        [*prefix, sys.executable, "-m", "tests.forks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ) | dict(env),
        cwd=Path(__file__).resolve().parents[1],
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.close()
    server.stdout.close()
    server.wait(timeout=CEILING)


def _serve() -> None:
    for module in pkgutil.walk_packages(rave_cli.__path__, "rave_cli."):
        importlib.import_module(module.name)
    # What is there already is neither looked at nor copied again in each fork.
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    requests = os.fdopen(os.dup(0), "rb")
    for line in requests:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _be_rave(request)
        _, status = os.waitpid(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _be_rave(request: dict[str, Any]) -> None:
    """Become what a shell would have started; never returns."""
    from rave_cli import app

    code = 99
    try:
        os.environ.clear()
        os.environ.update(request["env"])
        _be_in(request["cwd"])
        for number, what in request["streams"].items():
            _give(int(number), what)
        os.closerange(3, 64)
        # As Python does at its start.
        sys.stdin, sys.stdout, sys.stderr = (
            _standard(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        sys.argv = ["rave", *request["argv"]]
        app.main(request["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as Python does at the end of a program
        code = 1
        os.write(2, traceback.format_exc().encode())
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except BaseException:  # noqa: BLE001 - Python then ends with 120 and complains
            code = 120
        os._exit(code)


def _be_in(place: str) -> None:
    """Change the working directory; one named *gone is made for that and removed again."""
    if place.endswith("gone"):
        Path(place).mkdir()
        os.chdir(place)
        Path(place).rmdir()
    else:
        os.chdir(place)


def _give(number: int, what: str) -> None:
    if what == CLOSED:
        os.close(number)
        return
    flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    fd = os.open(what, flags | os.O_NOCTTY, 0o600)
    os.dup2(fd, number)
    os.close(fd)


def _standard(number: int, mode: str) -> Any:
    try:
        os.fstat(number)
    except OSError:
        return None
    return open(number, mode, closefd=False, errors="surrogateescape" if number < 2 else None)


if __name__ == "__main__":
    _serve()
