"""Lines out of whatever a machine says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rave_cli.pool.guests.lines import LONGEST, MOST_LINES, LineReader

PIECES = st.lists(st.binary(max_size=40), max_size=12)


@given(PIECES)
def test_nothing_is_kept_beyond_the_bounds_whatever_comes(pieces: list[bytes]) -> None:
    reader = LineReader(longest=24)
    for piece in pieces:
        found = reader.feed(piece)
        assert len(found) <= MOST_LINES
        assert all(line.strip() and len(line) <= 24 and b"\n" not in line for line in found)
        assert reader.held <= 24


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.integers(1, 30))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], size: int) -> None:
    lines = [line.replace(b"\n", b"x") for line in lines]
    data = b"".join(line + b"\n" for line in lines)
    reader, found = LineReader(), list[bytes]()
    for at in range(0, len(data), size):
        found += reader.feed(data[at : at + size])
    assert found == [line for line in lines if line.strip()]


def test_whoever_comes_after_a_line_without_end_is_heard() -> None:
    reader = LineReader()
    for _ in range(8):
        assert reader.feed(b"x" * LONGEST) == []
        assert reader.held <= LONGEST
    assert reader.feed(b"\nhello\n") == [b"hello"]
