"""PostgreSQL's log as it is kept: what follows on what, which moments that reaches, what stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.backups import log, parts
from rave_cli.backups.kept import KnownBackups
from rave_cli.backups.log import LogChain
from rave_cli.backups.parts import LogPart
from rave_cli.backups.retention import RetentionPolicy
from rave_cli.backups.retention import staying as staying_backups
from rave_guest.state import log as guest_log
from tests.unit.backups.test_kept import FIRST, backup

if TYPE_CHECKING:
    import random

MINUTES = 4


def test_host_and_guest_mean_the_same_bytes_and_names() -> None:
    assert parts.TAIL == guest_log.TAIL
    assert parts.CHAIN.pattern == guest_log.CHAIN.pattern
    assert parts.LSN.pattern == guest_log.LSN.pattern


def moment(hours: float) -> str:
    return (FIRST + timedelta(hours=hours)).strftime(parts.TIME)


def part(
    number: int, *, chain: str = "a" * 16, first: float = 0, size: int = 1000, machine: str = "dev"
) -> LogPart:
    """The part of so many turns after the chain's beginning (hours)."""
    since, until = (moment(first + n * MINUTES / 60) for n in (number, number + 1))
    start = 0xFFFFF000 + number * size
    return LogPart(
        machine, machine * 4, chain, 1, 16 << 20, "7", start, start + size, since, until, "5" * 64,
        "6" * 64, f"{chain[:4]}{number:060x}",
    )  # fmt: skip


def test_a_part_is_read_back_from_its_tags() -> None:
    one = part(3)
    found = LogPart.of({"id": one.snapshot, "tags": list(one.tags())})
    assert found == one
    assert all("," not in tag for tag in one.tags())
    listing = KnownBackups.of([{"id": one.snapshot, "time": "2026", "tags": list(one.tags())}])
    assert (listing.logs, listing.broken) == ((one,), ())
    assert LogPart.of({"id": "1", "tags": ["rave-log=1", "start=nowhere"]}) is None
    renamed = listing.called({one.instance: "web"})
    assert [one.machine for one in renamed.logs_of("web")] == ["web"]


@settings(max_examples=50)
@given(st.integers(0, (1 << 64) - 1))
def test_a_place_is_told_as_postgresql_does_and_read_back(place: int) -> None:
    assert parts.place_of(parts.told(place)) == place
    assert guest_log.position(guest_log.told(place)) == place
    assert parts.told(place) == guest_log.told(place)


@given(
    st.integers(1, (1 << 32) - 1),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([1 << n for n in range(20, 31)]),
)
def test_a_file_of_the_log_is_named_by_its_place(timeline: int, place: int, size: int) -> None:
    name = guest_log.file_of(timeline, place, size)
    assert guest_log.SEGMENT.fullmatch(name)
    assert guest_log.place_of(name, size) == place - place % size
    assert int(name[:8], 16) == timeline
    # The next file's name is the next by its letters, too.
    if place + size < 1 << 64:
        assert name < guest_log.file_of(timeline, place + size, size)


def test_files_are_named_as_postgresql_names_them() -> None:
    assert (
        guest_log.file_of(1, guest_log.position("1/2A00000"), 16 << 20)
        == "000000010000000100000002"
    )
    assert guest_log.file_of(2, guest_log.position("0/FF000000"), 16 << 20)[16:] == "000000FF"


@given(st.integers(2, 40), st.sets(st.integers(0, 39)), st.randoms(use_true_random=False))
def test_parts_are_chains_whatever_their_order_and_a_missing_one_is_a_gap(
    count: int, lost: set[int], order: random.Random
) -> None:
    left = [part(n) for n in range(count) if n not in lost]
    order.shuffle(left)
    found = log.chains(left)
    there = sorted((one.start, one.end) for chain in found for one in chain.parts)
    assert there == sorted((one.start, one.end) for one in left)
    for chain in found:
        assert all(
            one.end == two.start for one, two in zip(chain.parts, chain.parts[1:], strict=False)
        )
    holes = log.gaps(found)
    assert len(holes) == max(0, len(found) - 1)
    missing = sum(hole.before.start - hole.after.end for hole in holes)
    inner = [n for n in lost if left and _inside(n, left)]
    assert missing == 1000 * len(inner)


def _inside(number: int, left: list[LogPart]) -> bool:
    start = part(number).start
    return min(one.start for one in left) < start < max(one.start for one in left)


@given(st.integers(2, 30), st.data())
def test_what_was_made_one_takes_the_place_of_its_parts(count: int, data: st.DataObject) -> None:
    row = [part(n) for n in range(count)]
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first, count - 1))
    whole = replace(row[first], end=row[last].end, until=row[last].until, snapshot="whole")
    # As many of the small ones are left as a kill left.
    left = [one for one in row if not first <= one_of(row, one) <= last or data.draw(st.booleans())]
    (chain,) = log.chains([*left, whole])
    assert (chain.parts[0].start, chain.last.end) == (row[0].start, row[-1].end)
    assert chain.until == log.chains(row)[0].until
    assert sum(one.size for one in chain.parts) == 1000 * count


def one_of(row: list[LogPart], one: LogPart) -> int:
    return row.index(one)


def test_another_chain_is_no_gap_and_the_last_that_came_is_the_current_one() -> None:
    row = [part(0), part(1), part(0, chain="b" * 16, first=-100)]
    found = log.chains(row)
    assert [one.last.chain[0] for one in found] == ["a", "b"], "whatever a guest's clock says"
    assert log.gaps(found) == ()


def test_the_moments_go_from_the_end_of_the_copy_to_the_last_fetch() -> None:
    chain = LogChain(tuple(part(n) for n in range(30)))
    within, before = backup(1), backup(-1)
    span = log.reach(within, [chain])
    assert span is not None
    assert span.first == FIRST + timedelta(hours=1, seconds=4)
    assert span.last == FIRST + timedelta(hours=2)
    assert str(span) == "2026-01-01T01:00:04Z to 2026-01-01T02:00:00Z"
    assert log.reach(before, [chain]) is None, "what came between it and the log is not there"
    assert log.reach(backup(3), [chain]) is None
    assert log.reach(replace(within, instance="other"), [chain]) is None
    assert log.reach(replace(within, services=("redis",)), [chain]) is None


def test_a_moment_is_reached_with_the_least_and_only_with_what_is_needed() -> None:
    chain = LogChain(tuple(part(n) for n in range(60)))
    early, late = backup(1), backup(2)
    found = log.choose([early, late], [chain], FIRST + timedelta(hours=3))
    assert found is not None
    assert found[0] == late
    assert found[1].parts[0].since <= parts_moment(late.moment) <= found[1].parts[0].until
    assert found[1].last == chain.last
    # Before the later one had been copied.
    at = FIRST + timedelta(hours=2, seconds=3)
    found = log.choose([early, late], [chain], at)
    assert found is not None
    assert found[0] == early
    assert log.choose([early, late], [chain], FIRST) is None
    spans = log.spans([early, late], [chain])
    assert len(spans) == 1
    assert log.nearest(spans, FIRST) == FIRST + timedelta(hours=1, seconds=4)
    assert log.nearest(spans, FIRST + timedelta(days=9)) == chain.until
    assert log.nearest((), FIRST) is None


def parts_moment(at: datetime) -> str:
    return at.strftime(parts.TIME)


def test_between_two_chains_nothing_can_be_reached() -> None:
    one = LogChain(tuple(part(n) for n in range(30)))
    two = LogChain(tuple(part(n, chain="b" * 16, first=3) for n in range(30)))
    backups = [backup(1), backup(4)]
    assert [str(span) for span in log.spans(backups, [one, two])] == [
        "2026-01-01T01:00:04Z to 2026-01-01T02:00:00Z",
        "2026-01-01T04:00:04Z to 2026-01-01T05:00:00Z",
    ]


@settings(max_examples=60)
@given(
    st.lists(st.floats(0.01, 15 * 24), min_size=1, max_size=6),
    st.integers(0, 10),
    st.integers(1, 15 * 6),
    st.floats(0, 1),
)
def test_what_a_backup_that_stays_needs_for_the_last_days_is_never_taken_away(
    hours: list[float], days: int, turns: int, share: float
) -> None:
    """With parts of four hours, and a moment of the days that are kept."""
    row = [_of_hours(n) for n in range(turns)]
    backups = [backup(round(hour, 3)) for hour in hours]
    now = FIRST + timedelta(hours=turns * 4)
    stay = staying_backups(backups, RetentionPolicy(30, 12))
    left = [one for one in backups if one.name in stay]
    kept = log.staying(row, left, days, now)
    after = [one for one in row if one.snapshot in kept]
    assert row[-1] in after
    assert log.gaps(log.chains(after)) == ()
    at = now - timedelta(days=days) * share
    could, can = (log.choose(left, log.chains(some), at) for some in (row, after))
    assert (could is None) == (can is None)
    assert could is None or can is None or could[0] == can[0]


def _of_hours(number: int) -> LogPart:
    one = part(number)
    return replace(one, since=moment(number * 4), until=moment((number + 1) * 4))


def test_a_log_without_a_backup_goes_unless_it_is_the_current_one() -> None:
    old = [part(n) for n in range(3)]
    new = [part(n, chain="b" * 16, first=10) for n in range(3)]
    now = FIRST + timedelta(hours=12)
    assert log.staying([*old, *new], [], 7, now) == {one.snapshot for one in new}
    # After its days only that from which the next goes on is left of it.
    late = log.staying([*old, *new], [], 7, now + timedelta(days=30))
    assert late == {new[-1].snapshot}


def test_small_parts_at_the_end_are_those_behind_the_last_large_one() -> None:
    large = replace(part(2), end=part(2).start + log.LARGE)
    row = (part(0), part(1), large, part(3), part(4))
    assert LogChain(row).small() == row[3:]
    assert LogChain(row[:3]).small() == ()


def test_a_moment_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        parts.place_of("3000028")
    with pytest.raises(ValueError, match="time data"):
        parts.moment_of("yesterday")
    assert parts.said(datetime(2026, 1, 1, 1, tzinfo=UTC)) == "2026-01-01T01:00:00Z"
