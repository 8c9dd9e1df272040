"""How often somebody may ask: so many questions at once, and then so many a second."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Whoever has not asked for longest is forgotten first: a bucket that is not known is full.
MOST_KNOWN = 4096


@dataclass
class RateLimit:
    """Buckets by name. For one thread.

    Attributes:
        per_second: how many more it is each second.
        burst: how many at once.
        clock: seconds, never less than before.
    """

    per_second: float
    burst: int
    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, name: str) -> int:
        """Take one; return 0, or after how many whole seconds it is worth asking again."""
        now = self.clock()
        left, at = self._buckets.pop(name, (float(self.burst), now))
        left = min(float(self.burst), left + (now - at) * self.per_second)
        good = left >= 1
        self._buckets[name] = (left - good, now)
        while len(self._buckets) > MOST_KNOWN:
            self._buckets.popitem(last=False)
        return 0 if good else max(1, math.ceil((1 - left) / self.per_second))
