"""Cache disks, with the real qemu-img: what one job leaves the next of its owner and key has."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import RaveError
from rave_cli.machines import disks
from rave_cli.pool.files import caches

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.pool.files.caches import KeptCache


class OfJob:
    """The files of a job's machine."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.cache_disk = directory, directory / "cache.qcow2"
        directory.mkdir()
        disks.make_disk(self.cache_disk, "4G")


@pytest.fixture
def machine(home: Path, tmp_path: Path) -> Any:
    def made(name: str) -> OfJob:
        return OfJob(tmp_path / name)

    return made


def io(disk: Path, word: str) -> bool:
    """Let qemu-io do something with a disk; return whether it did."""
    done = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", word, disk], capture_output=True, text=True, check=True
    )
    return "failed" not in done.stdout


def write(machine: Any, pattern: int) -> None:
    io(machine.cache_disk, f"write -P {pattern} 1M 64k")


def reads(machine: Any, pattern: int) -> bool:
    return io(machine.cache_disk, f"read -P {pattern} 1M 64k")


def names() -> list[str]:
    return [one.left_by for one in caches.kept_caches()]


def test_what_is_left_is_what_the_next_one_begins_with(machine: Any) -> None:
    first, second, third = (machine(name) for name in "abc")
    assert caches.lay("me", "k", first) == ""
    write(first, 1)
    caches.keep("me", "k", first, "job-1")
    assert caches.lay("me", "k", second) == "job-1"
    assert reads(second, 1)
    # What it writes is its own, until it is kept.
    write(second, 2)
    assert caches.lay("me", "k", third) == "job-1"
    assert reads(third, 1)
    (kept,) = caches.kept_caches()
    assert (kept.owner, kept.key, kept.left_by) == ("me", "k", "job-1")
    assert 0 < kept.size < 1 << 20


@pytest.mark.parametrize(("owner", "key"), [("you", "k"), ("me", "K"), ("", "me\0k"), ("m", "ek")])
def test_nobody_else_gets_it_and_no_other_key_does(machine: Any, owner: str, key: str) -> None:
    one, other = machine("a"), machine("b")
    caches.keep("me", "k", one, "job-1")
    assert caches.lay(owner, key, other) == ""


def test_of_two_at_once_neither_sees_the_others_and_the_last_is_kept(machine: Any) -> None:
    first, one, other, last = (machine(name) for name in "abcd")
    write(first, 1)
    caches.keep("me", "k", first, "job-1")
    for both in (one, other):
        caches.lay("me", "k", both)
    write(one, 2)
    caches.keep("me", "k", one, "job-2")
    # What it builds on is its own name of what was kept.
    assert reads(other, 1)
    write(other, 3)
    caches.keep("me", "k", other, "job-3")
    assert caches.lay("me", "k", last) == "job-3"
    assert reads(last, 3)
    assert names() == ["job-3"]
    (kept,) = caches.kept_caches()
    # Nothing of what was replaced is left.
    files = sorted(file.name for file in kept.place.iterdir())
    assert files == ["cache.json", "current", "job-3.qcow2"]


def test_a_disk_that_is_damaged_takes_nothings_place(machine: Any) -> None:
    good, bad = machine("a"), machine("b")
    caches.keep("me", "k", good, "job-1")
    bad.cache_disk.write_bytes(b"nothing")
    with pytest.raises(RaveError, match="cannot be kept"):
        caches.keep("me", "k", bad, "job-2")
    assert names() == ["job-1"]
    assert len([*caches.kept_caches()[0].place.iterdir()]) == 3


def test_what_a_killed_agent_left_is_swept_and_what_is_kept_stays(machine: Any) -> None:
    caches.sweep()
    caches.keep("me", "k", machine("a"), "job-1")
    (kept,) = caches.kept_caches()
    for name in (".job-2.qcow2", "job-2.qcow2"):
        (kept.place / name).write_bytes(b"half")
    caches.sweep()
    assert names() == ["job-1"]
    assert len([*kept.place.iterdir()]) == 3


def used(*ago: float) -> list[KeptCache]:
    """Let what is kept have been used so many seconds ago, the newest first."""
    for one, seconds in zip(caches.kept_caches(), ago, strict=True):
        os.utime(one.place / caches.RECORD, (time.time() - seconds,) * 2)
    return caches.kept_caches()


def test_what_was_used_longest_ago_makes_room(machine: Any) -> None:
    disk = machine("a")
    write(disk, 1)
    for number in range(3):
        caches.keep("me", f"k{number}", disk, f"job-{number}")
    found = used(10, 20, 30)
    assert caches.prune(sum(one.size for one in found)) == []
    assert caches.prune(found[0].size + found[1].size) == [found[2]]
    assert caches.prune(1 << 40, unused=15) == [found[1]]
    assert caches.kept_caches() == [found[0]]
    # Having it counts as using it.
    used(100)
    caches.lay("me", found[0].key, machine("b"))
    assert caches.prune(1 << 40, unused=50) == []
    assert len(caches.prune(0)) == 1
    assert names() == []


def test_one_that_is_removed_stays_with_whoever_has_it(machine: Any) -> None:
    first, has = machine("a"), machine("b")
    write(first, 1)
    caches.keep("me", "k", first, "job-1")
    caches.lay("me", "k", has)
    caches.remove(caches.kept_caches())
    assert names() == []
    assert reads(has, 1)
    caches.keep("me", "k", has, "job-2")
    assert names() == ["job-2"]


def test_what_is_damaged_on_the_disk_is_no_cache(machine: Any) -> None:
    caches.keep("me", "k", machine("a"), "job-1")
    (kept,) = caches.kept_caches()
    (kept.place / "current").unlink()
    (kept.place / "current").symlink_to("../../jobs.sqlite")
    assert caches.kept_caches() == []
    assert caches.lay("me", "k", machine("b")) == ""
