"""What is recorded comes in an order that was fixed before, in whatever order it is found."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.smoke.turns import Turns

NAMES = ["a", "b", "c", "d", "e"]


@given(st.permutations(NAMES))
def test_the_order_is_kept_whatever_comes_first(coming: list[str]) -> None:
    done: list[str] = []
    turns = Turns(NAMES)
    for name in coming:
        turns.put(name, lambda name=name: done.append(name))  # type: ignore[misc]
    assert done == NAMES


@given(st.permutations(NAMES), st.integers(0, len(NAMES)))
def test_what_waits_at_the_end_is_done_in_order_without_what_is_missing(
    coming: list[str], count: int
) -> None:
    done: list[str] = []
    turns = Turns(NAMES)
    for name in coming[:count]:
        turns.put(name, lambda name=name: done.append(name))  # type: ignore[misc]
    turns.end()
    assert done == [name for name in NAMES if name in coming[:count]]


def test_what_nobody_waits_for_is_done_at_once() -> None:
    done: list[str] = []
    turns = Turns(["a", "b"])
    turns.put("a", lambda: done.append("a"))
    assert done == ["a"]
    turns.put("b", lambda: done.append("b"))
    assert done == ["a", "b"]


def test_a_fault_reaches_whoever_gave_the_turn() -> None:
    turns = Turns(["a", "b"])

    def full() -> None:
        raise OSError("no space left")

    turns.put("b", full)
    with pytest.raises(OSError, match="no space"):
        turns.put("a", lambda: None)


def test_threads_may_share_it() -> None:
    names = [str(number) for number in range(200)]
    done: list[str] = []
    turns = Turns(names)

    def give(part: list[str]) -> None:
        for name in part:
            turns.put(name, lambda name=name: done.append(name))  # type: ignore[misc]

    threads = [threading.Thread(target=give, args=(names[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == names
