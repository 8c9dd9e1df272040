"""How long a test waits for what must come.

A test says what must happen, not how soon: on a busy host everything takes longer. CEILING is only
reached where something hangs, so it can be long. What must happen at once is shown by taking away
what would end it later (a deadline that never comes), not by a stopwatch.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CEILING = 240.0  # seconds
NEVER = 1e6  # seconds: no test lasts as long


def until(
    condition: Callable[[], object], *, pause: float = 0.01, ceiling: float = CEILING
) -> None:
    """Return as soon as a condition holds; `ceiling` in seconds."""
    deadline = time.monotonic() + ceiling
    while not condition():
        assert time.monotonic() < deadline, f"waited for {ceiling:g} s"
        time.sleep(pause)
