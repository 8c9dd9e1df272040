"""A program that the host has run here, ended before it is what it is to be."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from rave_guest import child
from rave_guest.child import Child
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What whoever serves the channel says when it is told to end itself."""
    heard, say = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGTERM, lambda _number, _frame: os.write(say, b"gone"))
    yield heard
    os.close(heard)
    os.close(say)


@pytest.mark.parametrize("where", ["setsid", "_account"])
def test_what_is_ended_before_it_has_begun_ends_and_says_nothing(
    said: int, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Neither is its end lost, nor does it take the end for that of whoever started it."""
    waits, goes_on = os.pipe2(os.O_CLOEXEC)
    place = os if where == "setsid" else child
    real = getattr(place, where)

    def later(*args: object, **more: object) -> object:
        os.read(waits, 1)
        return real(*args, **more)

    monkeypatch.setattr(place, where, later)
    started = Child(["sleep", "infinity"], root=False, number=1)
    started.end()
    os.write(goes_on, b"1")
    until(lambda: started.reap() is not None)
    assert started.status == -signal.SIGTERM
    with pytest.raises(BlockingIOError):
        os.read(said, 100)
    started.forget()
    os.close(waits)
    os.close(goes_on)
