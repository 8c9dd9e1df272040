"""The guest's clock follows the machine's real-time clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from rave_guest import clock

if TYPE_CHECKING:
    from pathlib import Path


class Clocks:
    """A host's clock, the guest's own, and what the guest set it to."""

    def __init__(self, rtc: Path) -> None:
        self.host = 1_800_000_000.25
        self.behind = 0.0
        self.set: list[float] = []
        self._rtc = rtc
        self.run(0)

    def run(self, seconds: float) -> None:
        self.host += seconds
        self._rtc.write_text(f"{int(self.host)}\n")

    def guest(self) -> float:
        return self.host - self.behind

    def settime(self, _which: int, seconds: float) -> None:
        self.set.append(seconds)
        self.behind = self.host - seconds


@pytest.fixture
def clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    found = Clocks(tmp_path / "since_epoch")
    monkeypatch.setattr(clock, "RTC", str(tmp_path / "since_epoch"))
    monkeypatch.setattr(time, "time", found.guest)
    monkeypatch.setattr(time, "monotonic", lambda: found.host)
    monkeypatch.setattr(time, "sleep", found.run)
    monkeypatch.setattr(time, "clock_settime", found.settime)
    return found


@pytest.mark.parametrize("behind", [50.0, 2.9, -3.0, 86_400.0])
def test_a_clock_that_is_off_is_set_to_the_beginning_of_a_second(
    clocks: Clocks, behind: float
) -> None:
    clocks.behind = behind
    clock.follow()
    assert abs(clocks.behind) <= clock.LOOK
    assert clocks.set == [int(clocks.host)]


@pytest.mark.parametrize("behind", [0.0, 1.4, -1.4])
def test_a_difference_that_the_reference_cannot_tell_is_left(clocks: Clocks, behind: float) -> None:
    clocks.behind = behind
    clock.follow()
    assert clocks.set == []


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.99])
def test_the_offset_is_right_to_half_a_second(clocks: Clocks, fraction: float) -> None:
    clocks.host = int(clocks.host) + fraction
    clocks.run(0)
    clocks.behind = 50
    assert clock.offset() == pytest.approx(-50, abs=0.5)


def test_a_machine_without_a_real_time_clock_keeps_its_own(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "RTC", "/nonexistent")
    assert clock.offset() is None
    clock.follow()
    assert clocks.set == []


def test_a_reference_that_stands_still_does_not_hold_the_reporter(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, clocks.behind = clocks.host, 50
    monkeypatch.setattr(clock, "reference", lambda: 1_800_000_000)
    clock.follow()
    assert clocks.host - began < clock.EDGE + 1
