"""Waits until no job runs any more, where none begins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.pool.asking.standing import PoolStanding

LOOK = 0.2


def drained(look: Callable[[], PoolStanding]) -> Iterator[int]:
    """Yield how many agents still work, whenever that is another number, until none does; ends as
    well once nobody serves the pool or drains it.
    """
    last = None
    while (found := look()).served and found.wanted.draining:
        said = found.said
        # Until it says so, whoever serves has not heard that none is to begin.
        heard = said is not None and said.draining
        if said is not None and heard and said.working == 0:
            return
        working = said.working if said is not None and heard else last
        if working is not None and working != last:
            last = working
            yield working
        time.sleep(LOOK)
