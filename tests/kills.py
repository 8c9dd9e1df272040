"""Counts the kills that tests survive: a run of pytest ends with the figures, test by test."""

from __future__ import annotations

import os
from collections import Counter

KILLS: Counter[str] = Counter()

# How many of the points at which something can be killed a run goes through: every n-th. Each is a
# start of a machine, a kill and a repair; 1 takes all of them.
STRIDE = int(os.environ.get("RAVE_KILL_STRIDE", "5"))


def count() -> None:
    """Count one kill for the test that runs."""
    node = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2]
    KILLS[node.partition("[")[0].partition(" ")[0]] += 1


def told() -> list[str]:
    """Return the lines that end a run; none if nothing was killed."""
    if not KILLS:
        return []
    lines = [f"{number:5d}  {name}" for name, number in sorted(KILLS.items())]
    return [*lines, f"{KILLS.total():5d}  kills in all, every {STRIDE}. point"]
