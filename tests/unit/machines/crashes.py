"""Kills a process at the n-th step of what it does to the file system, or QEMU at the n-th order
that it gets: a crash without luck.

The steps are the calls that change something (rename, unlink, mkdir, writes through os.open and
fsync, programs that are started), as Python's audit events tell them, so that every place between
two of them is met, and the same one in each run.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import paths
from rave_cli.errors import RaveError
from tests import kills
from tests.unit.machines.conftest import running_fakes
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.machines.conftest import Host

STEPS = {
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod",
    "os.truncate", "subprocess.Popen", "os.posix_spawn", "shutil.rmtree", "socket.connect",
}  # fmt: skip


class Crash:
    """Runs something in a process of its own, which dies (SIGKILL) before its n-th step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, do: Callable[[], Any]) -> bool:
        """Return whether it was killed; else it has ended by itself before that step."""
        pid = os.fork()
        if pid == 0:
            try:
                self._arm()
                do()
            finally:
                os._exit(0 if sys.exception() is None else 1)
        _, ended = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(ended)
        assert code in (0, -signal.SIGKILL), code
        if code:
            kills.count()
        return code != 0

    def _arm(self) -> None:
        left = self.step

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            writes = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
            if event in STEPS or writes:
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(count)


def crashes_at_each_step(count: int) -> pytest.MarkDecorator:
    """Parametrize a test with a crash before each of the first `count` steps."""
    return pytest.mark.parametrize(
        "crash", [Crash(step) for step in range(count)], ids=[f"step{n}" for n in range(count)]
    )


def every_step(
    do: Callable[[], Any],
    *,
    least: int,
    before: Callable[[], object] = lambda: None,
    dear: int = 1,
) -> Iterator[int]:
    """Yield after each crash of `do`, before every STRIDE-th of its steps, until it ends by itself;
    `before` makes ready for each. `least` is how many steps it is known to have; of what is `dear`
    so many times fewer are taken, unless all are.
    """
    for step in range(0, sys.maxsize, kills.STRIDE * dear if kills.STRIDE > 1 else 1):
        before()
        if not Crash(step)(do):
            assert step >= least, step
            return
        yield step


def every_order(
    host: Host, do: Callable[[], Any], *, least: int, before: Callable[[], object] = lambda: None
) -> Iterator[RaveError | None]:
    """Yield after each `do` whose fake QEMU was killed, before or after an order that it got, what
    `do` said of it, until none is; `least` is how many orders it is known to get.
    """
    place = host.bin / "fatal"
    # By an odd stride, so that before and after take turns; there are few orders.
    for point in range(0, sys.maxsize, max(1, min(kills.STRIDE - 2, 5))):
        before()
        paths.atomic_write(place, f"{point // 2} {('before', 'after')[point % 2]}".encode())
        told = None
        try:
            do()
        except RaveError as error:
            told = error
        if place.exists():
            place.unlink()
            assert told is None
            assert point >= 2 * least, point
            return
        kills.count()
        until(lambda: not running_fakes(host.bin))
        yield told
