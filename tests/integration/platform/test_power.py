"""The power goes: what was acknowledged is on the disk, as a file system shows it afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from rave_platform.adapters.store import SqliteEvents
from rave_platform.domain.handover import TakenIn
from tests.unit.platform.deliveries import delivery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CUTS = 12


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Mount a file system; what is not synced reaches the image when the kernel likes."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-o", "loop", str(image), str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this root may not mount a loop device")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An image of a file system."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a file system of a test's own")
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    return image


def found_after(cut: Path, place: Path) -> set[str]:
    """Return the events that are there when the machine is started again."""
    with mounted(cut, place) as disk, SqliteEvents(disk / "events.db", 7) as store:
        return {str(kept.event.event_uuid) for kept in store.newest(1000)}


def test_a_power_cut_takes_back_nothing_that_was_acknowledged(tmp_path: Path, disk: Path) -> None:
    acknowledged: list[set[str]] = []
    with (
        mounted(disk, tmp_path / "before") as place,
        SqliteEvents(place / "events.db", 7) as store,
    ):
        names: set[str] = set()
        for number in range(CUTS):
            stored = store.add([delivery(3 * number + more) for more in range(3)], 0.0)
            names |= {str(found.event_uuid) for found in stored}
            # What the image holds now is what a disk would.
            shutil.copy(disk, tmp_path / f"cut-{number}")
            acknowledged.append(set(names))
            store.record([(event.number, TakenIn(1)) for event in store.due(2)])
    for number, expected in enumerate(acknowledged):
        assert found_after(tmp_path / f"cut-{number}", tmp_path / "after") == expected


def test_what_is_not_synced_would_be_gone(tmp_path: Path, disk: Path) -> None:
    # So that the test above could fail. The kernel may write at any moment: one loss is enough.
    with (
        mounted(disk, tmp_path / "before") as place,
        SqliteEvents(place / "events.db", 7) as store,
    ):
        store._file._db.execute("PRAGMA synchronous = NORMAL")
        for number in range(1, 6):
            store.add([delivery(number)], 0.0)
            shutil.copy(disk, tmp_path / f"cut-{number}")
    kept = [
        len(found_after(tmp_path / f"cut-{number}", tmp_path / "after")) for number in range(1, 6)
    ]
    assert kept != [1, 2, 3, 4, 5]
