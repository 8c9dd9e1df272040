"""How long is waited between tries: full jitter, so that what fails together comes back apart."""

from __future__ import annotations

import random

# Seconds (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
FIRST, MOST = 5.0, 1800.0


def backed_off(tries: int) -> float:
    """Return the seconds before the next try, after so many that failed before the last one."""
    return random.uniform(FIRST / 5, min(MOST, FIRST * 2 ** min(tries, 30)))  # noqa: S311 - no secret


def spread(seconds: float) -> float:
    """Return an interval, a tenth more or less: sources do not poll one forge together."""
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
