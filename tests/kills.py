"""Counts the kills that tests survive: a run of pytest ends with the figures, test by test."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import FrameType

KILLS: Counter[str] = Counter()

# How many of the points at which something can be killed a run goes through: every n-th. Each is a
# start of a machine, a kill and a repair; 1 takes all of them.
USUAL = 11
STRIDE = int(os.environ.get("RAVE_KILL_STRIDE", USUAL))


# Where a run writes how many there were, if it is set (tests/run.py).
FILE = "RAVE_KILLS_FILE"


def count() -> None:
    """Count one kill for the test that runs."""
    KILLS[os.environ["PYTEST_CURRENT_TEST"].partition(" (")[0].partition("[")[0]] += 1


def at_line(line: int, call: Callable[[], object], watched: Collection[str | None]) -> bool:
    """Do something in a process that is killed at its n-th line in the watched files; returns
    whether it came to that.
    """
    pid = os.fork()
    if pid == 0:
        left = line

        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in watched:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            call()
            sys.settrace(None)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    if code:
        count()
    return code != 0


def told() -> list[str]:
    """Return the lines that end a run; none if nothing was killed."""
    if not KILLS:
        return []
    lines = [f"{number:5d}  {name.partition('::')[2]}" for name, number in sorted(KILLS.items())]
    return [*lines, f"{KILLS.total():5d}  kills in all, every {STRIDE}. point"]


def of_machines() -> int:
    """Return how many were of machines, or of commands that do something to one."""
    return sum(number for name, number in KILLS.items() if "/machines/" in name)
