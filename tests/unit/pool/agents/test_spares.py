"""Machines that stand by: as many as are wanted, each given to one, and none left behind."""

from __future__ import annotations

import threading
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.agents import spares as module
from rave_cli.pool.agents.spares import Spares
from tests.waiting import NEVER, until


class World:
    """What is made and what is gone; the first `failing` cannot be made."""

    def __init__(self, failing: int = 0) -> None:
        self.there: set[int] = set()
        self._numbers, self._lock, self._failing = count(), threading.Lock(), failing
        self.spares = Spares(self.make, self.discard)

    def make(self) -> int:
        with self._lock:
            number = next(self._numbers)
            if number < self._failing:
                raise RaveError("there is no memory", exit_code=ExitCode.HOST)
            self.there.add(number)
            return number

    def discard(self, number: int) -> None:
        with self._lock:
            self.there.remove(number)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTS", 0.001)
    monkeypatch.setattr(module, "AGAIN", 0.001)


def test_none_is_made_unless_somebody_wants_one() -> None:
    world = World()
    world.spares.scale(0)
    assert world.spares.take() is None
    world.spares.end()
    assert next(world._numbers) == 0


def test_one_that_is_taken_is_made_anew_and_is_nobody_elses() -> None:
    world = World()
    world.spares.scale(2)
    until(lambda: len(world.spares._there) == 2)
    taken = [world.spares.take(), world.spares.take()]
    until(lambda: len(world.there) == 4)
    world.spares.end()
    assert world.there == set(taken)


def test_what_is_not_wanted_any_more_is_discarded() -> None:
    world = World()
    world.spares.scale(3)
    until(lambda: len(world.spares._there) == 3)
    world.spares.scale(1)
    until(lambda: len(world.there) == 1)
    world.spares.end()
    assert world.there == set()


def test_one_that_cannot_be_made_is_tried_again() -> None:
    world = World(failing=3)
    world.spares.scale(1)
    until(lambda: world.there == {3})
    world.spares.end()


def test_one_that_never_can_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN", 1.0)
    monkeypatch.setattr(module, "MOST_AGAIN", 5.0)
    rests: list[float] = []
    world = World(failing=4)
    monkeypatch.setattr(world.spares, "_rest", rests.append)
    world.spares._again = 1.0
    for _ in range(4):
        world.spares._add()
    assert rests == [1.0, 2.0, 4.0, 5.0]
    world.spares._add()
    assert (world.there, world.spares._again) == ({4}, 1.0)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4) | st.none(), max_size=12))
def test_whatever_is_wanted_and_taken_nothing_is_left_or_given_twice(
    steps: list[int | None],
) -> None:
    world, taken = World(), list[int]()
    for step in steps:
        if step is None:
            found = world.spares.take()
            taken += [] if found is None else [found]
        else:
            world.spares.scale(step)
    world.spares.end()
    assert len(set(taken)) == len(taken)
    assert world.there == set(taken)


def test_where_none_is_asked_for_for_a_while_none_is_kept_until_one_is() -> None:
    world = World()
    world.spares.scale(2)
    until(lambda: len(world.there) == 2)
    # As if that long had passed.
    world.spares._idle = 0.0
    until(lambda: not world.there)
    # What is wanted is said again and again.
    world.spares.scale(2)
    world.spares._asked -= 2 * NEVER
    world.spares._idle = NEVER
    assert not world.there
    assert world.spares.take() is None
    until(lambda: len(world.there) == 2)
    world.spares.end()
    assert not world.there
