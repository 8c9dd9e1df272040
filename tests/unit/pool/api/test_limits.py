"""How often somebody may ask, whatever the clock shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rave_cli.pool.api.limits import MOST_KNOWN, RateLimit


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200), st.floats(0.1, 50), st.integers(1, 20))
def test_no_more_are_let_in_than_the_rate_allows(
    pauses: list[float], rate: float, burst: int
) -> None:
    now = 0.0
    limit = RateLimit(rate, burst, lambda: now)
    let_in = 0
    for pause in pauses:
        now += pause
        wait = limit.take("one")
        assert wait >= 0
        let_in += not wait
        assert let_in <= burst + rate * now + 1e-6


def test_whoever_waits_as_long_as_told_is_let_in() -> None:
    now = 0.0
    limit = RateLimit(0.3, 2, lambda: now)
    assert [limit.take("one") for _ in range(3)] == [0, 0, 4]
    assert limit.take("another") == 0
    now += 4
    assert limit.take("one") == 0


def test_names_without_end_take_no_memory_without_end() -> None:
    limit = RateLimit(1, 1, lambda: 0.0)
    for number in range(MOST_KNOWN + 100):
        limit.take(str(number))
    assert len(limit._buckets) == MOST_KNOWN
