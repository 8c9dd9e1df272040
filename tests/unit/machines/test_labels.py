"""Whose a data disk says to be, as the host reads it out of a qcow2 file."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import labels
from tests.disks import labelled, qcow2

if TYPE_CHECKING:
    from pathlib import Path

ONE = "5efdf6adaf2048ad810afdf250e8f266"


def test_what_a_guest_has_written_there_is_read(tmp_path: Path) -> None:
    disk = tmp_path / "data.qcow2"
    disk.write_bytes(labelled(ONE))
    assert labels.of(disk) == ONE


@pytest.mark.parametrize("sector", [None, b"", bytes(512)])
def test_a_disk_that_no_machine_has_had_is_nobodys(tmp_path: Path, sector: bytes | None) -> None:
    disk = tmp_path / "data.qcow2"
    disk.write_bytes(qcow2(sector=sector))
    assert labels.of(disk) is None


def test_what_was_not_written_since_is_that_of_the_disk_below(tmp_path: Path) -> None:
    (tmp_path / "base-data.qcow2").write_bytes(labelled(ONE))
    disk = tmp_path / "data.qcow2"
    disk.write_bytes(qcow2(below="base-data.qcow2"))
    assert labels.of(disk) == ONE
    disk.write_bytes(qcow2(below="base-data.qcow2", sector=bytes(512)))
    assert labels.of(disk) is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"not a disk", "is not a qcow2 file"),
        (qcow2(sector=b"GRUB"), "does not say whose it is"),
        (qcow2(sector=f"rave-data 2 {ONE}\n".encode()), "does not say whose it is"),
        (qcow2(below="data.qcow2"), "too many files lie below it"),
        (qcow2(below="gone.qcow2"), "gone.qcow2"),
    ],
)
def test_what_is_no_data_disk_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    disk = tmp_path / "data.qcow2"
    disk.write_bytes(data)
    with pytest.raises(RaveError, match=why) as caught:
        labels.of(disk)
    assert caught.value.exit_code == ExitCode.HOST


@given(st.binary(max_size=300))
def test_a_damaged_file_is_refused_or_read_and_never_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes
) -> None:
    disk = tmp_path_factory.mktemp("disk") / "data.qcow2"
    whole = labelled(ONE)
    disk.write_bytes(whole[:8] + damage + whole[8 + len(damage) :])
    with suppress(RaveError):
        assert labels.of(disk) in (None, ONE)
