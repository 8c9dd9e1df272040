"""No secret value is passed on, in whatever pieces it comes, and nothing else is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.pool.agents.masking import MASK, Masking

# Few letters, so that values begin with each other, repeat themselves and overlap.
letters = st.text("ab", min_size=4, max_size=9).map(str.encode)


def masked(values: list[bytes], pieces: list[bytes]) -> bytes:
    masking = Masking(values)
    return b"".join([*map(masking.take, pieces), masking.flush()])


@given(st.lists(letters, min_size=1, max_size=3), st.lists(st.text("ab\n").map(str.encode)))
def test_pieces_are_masked_as_the_whole_is(values: list[bytes], pieces: list[bytes]) -> None:
    longest = sorted(values, key=len, reverse=True)
    whole = re.sub(b"|".join(map(re.escape, longest)), MASK, b"".join(pieces))
    found = masked(values, pieces)
    assert found == whole
    assert not any(value in found.replace(MASK, b"\n") for value in values)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_where_there_is_no_secret_nothing_is_changed_or_held_back(data: bytes, size: int) -> None:
    masking = Masking([])
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [masking.take(piece) for piece in pieces] == pieces
    assert masking.flush() == b""


def test_what_cannot_become_a_secret_is_passed_on_at_once() -> None:
    masking = Masking([b"hunter22"])
    assert masking.take(b"what a day, hun") == b"what a day, "
    assert masking.take(b"ter22!") == MASK + b"!"
    assert masking.take(b"hunter2") == b""
    assert masking.flush() == b"hunter2"


@pytest.mark.parametrize("value", [b"", b"abc"])
def test_what_is_too_short_to_be_one_stays(value: bytes) -> None:
    assert masked([value], [b"abc abc"]) == b"abc abc"


def test_each_line_of_a_value_is_masked() -> None:
    key = b"-----BEGIN-----\nAAAABBBB\n-----END-----\n"
    assert b"AAAABBBB" not in masked([key], [b"x AAAABBBB y"])
