"""How fast the host's counter counts, and that a guest which has its time from it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines.qemu import counter
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.templates.key import command_digest
from tests.unit.machines.test_argv import DISK_IMAGE, KVM, SPEC, TCG, machine

if TYPE_CHECKING:
    from pathlib import Path

TOLD = replace(TCG, counter_khz=2_596_130)


def test_it_is_measured_alike_each_time() -> None:
    first, second = counter.khz(), counter.khz()
    if first is None:
        pytest.skip("this processor has no counter of a constant speed")
    assert 100_000 < first < 10_000_000
    assert second == pytest.approx(first, rel=1e-3)


def test_where_its_speed_may_change_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cpuinfo"
    monkeypatch.setattr(counter, "CPUINFO", place)
    assert counter.khz() is None
    place.write_text("flags\t\t: fpu tsc msr nonstop_tsc\n")
    assert counter.khz() is None


def test_a_guest_that_has_its_time_from_it_is_told() -> None:
    """One that found out by itself, on a busy host, had a clock that ran 5.7 times too fast."""
    (line,) = [word for word in qemu_argv(machine(), TOLD) if "rave.mode" in word]
    assert line.endswith(" tsc_early_khz=2596130")


def test_whoever_has_another_clock_is_not() -> None:
    for found in (TCG, replace(KVM, counter_khz=2_596_130)):
        assert "tsc_early_khz" not in "".join(qemu_argv(machine(), found))
    disk = machine(replace(SPEC, image=DISK_IMAGE))
    assert "tsc_early_khz" not in "".join(qemu_argv(disk, TOLD))


def test_a_template_outlives_a_measurement() -> None:
    assert command_digest(SPEC, TOLD) == command_digest(SPEC, TCG)
