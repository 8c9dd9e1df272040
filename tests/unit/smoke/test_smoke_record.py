"""The figures of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.smoke.recorder import covered
from rave_cli.transcript.parts import health_of

if TYPE_CHECKING:
    from rave_cli.transcript.check import Status

moments = st.integers(0, 50)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0.0),
        ([(1.0, 2.0)], 1.0),
        ([(1.0, 3.0), (2.0, 4.0)], 3.0),
        ([(5.0, 6.0), (1.0, 2.0)], 2.0),
        ([(1.0, 9.0), (2.0, 3.0)], 8.0),
    ],
)
def test_time_in_which_a_phase_was_under_way(
    spans: list[tuple[float, float]], seconds: float
) -> None:
    assert covered(spans) == seconds


@given(st.lists(st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair)))))
def test_every_moment_counts_once(spans: list[tuple[int, int]]) -> None:
    moments_covered = {moment for start, end in spans for moment in range(start, end)}
    assert covered(spans) == len(moments_covered)


@pytest.mark.parametrize(
    ("statuses", "health"),
    [
        (["pass", "warn", "skip"], "healthy"),
        (["pass", "fail"], "unhealthy"),
        (["pass", "error"], "unhealthy"),
        (["skip"], "not asked"),
        ([], "not asked"),
    ],
)
def test_health_of_a_service(statuses: list[Status], health: str) -> None:
    assert health_of(statuses) == health
