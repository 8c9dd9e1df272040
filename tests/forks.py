"""Runs rave in processes of its own at the cost of a fork: for tests that walk every command.

A server that has imported everything forks for each request, so that what a process is given
(streams, working directory, arguments of any bytes) is real, and its start is not paid each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

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
    """A context in which rave can be called; `prefix` starts the server, such as with setpriv."""

    def __init__(self, *, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self._server = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(os.environ) | dict(env or {}),
            cwd=Path(__file__).resolve().parents[1],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=CEILING)

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
            request = {"argv": list(words), "cwd": str(cwd), "streams": files}
            self._server.stdin.write(json.dumps(request).encode() + b"\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            out, err = (Path(place, name) for name in ("out", "err"))
            return Done(
                code,
                out.read_bytes() if out.exists() else b"",
                err.read_bytes() if err.exists() else b"",
            )


def _serve() -> None:
    from rave_cli import app

    for group in (app.cli, app.vm, app.secrets, app.smoke):
        for name in group.lazy:
            group.get_command(None, name)  # type: ignore[arg-type]
    import rave_cli.flows.up  # noqa: F401

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
