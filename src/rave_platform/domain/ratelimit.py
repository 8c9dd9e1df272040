"""A token bucket: so many at once, then so many a second."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """How many a second, and how many at once."""

    per_second: float
    burst: int


@dataclass(frozen=True)
class Bucket:
    """What is left, as of a moment of a clock that only goes forward, in seconds."""

    tokens: float
    at: float


@dataclass(frozen=True)
class Drawn:
    """The bucket afterwards, and how long to wait, in seconds: 0 if one was taken."""

    bucket: Bucket
    wait: float


def draw(bucket: Bucket, rate: Rate, now: float) -> Drawn:
    """Take one token, if there is one."""
    passed = max(0.0, now - bucket.at)
    tokens = min(float(rate.burst), bucket.tokens + passed * rate.per_second)
    at = max(now, bucket.at)
    if tokens < 1:
        return Drawn(Bucket(tokens, at), (1 - tokens) / rate.per_second)
    return Drawn(Bucket(tokens - 1, at), 0.0)
