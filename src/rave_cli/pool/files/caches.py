"""Cache disks: what one job leaves for the next of the same owner and key.

A job's machine gets a disk of its own, which builds on what is kept and is thrown away with it,
unless the job succeeds: then a flat copy takes the place of what was kept, by one rename. What is
kept never changes while somebody reads it, and two jobs of one key at a time never see each
other's; the last one that succeeds is what the next one begins with. No file system on it is read
on this host: only guests mount it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import disks
from rave_cli.machines.spec import CACHE_GIB
from rave_cli.pool.jobs.database import folder
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine

# Bytes that all caches may take; those that were not used for longest go first.
MOST = 20 << 30

# Seconds for a disk of CACHE_GIB to be copied.
COPIES = 600.0

# In its folder: whose it is, what is kept (a link to a file that is called after the attempt that
# left it), and the ending of such files.
RECORD, CURRENT, DISK = "cache.json", "current", ".qcow2"

# In a machine's directory: a name of its own for what its cache builds on.
BELOW = "cache-base.qcow2"


@dataclass(frozen=True)
class CacheRecord:
    """The content of cache.json: whose jobs, with which key, get it."""

    owner: str
    key: str


CACHE = RecordFormat(title="the record of a cache", shape=CacheRecord, version=1)


@dataclass(frozen=True)
class KeptCache:
    """A cache as it is kept.

    Attributes:
        owner: whose jobs get it, and nobody else's.
        key: with which key.
        left_by: the attempt, as `job-attempt`, that left it.
        size: bytes that it takes here.
        used: seconds since the epoch when a job last got or left it.
        place: its folder.
    """

    owner: str
    key: str
    left_by: str
    size: int
    used: float
    place: Path


def lay(owner: str, key: str, machine: Machine) -> str:
    """Give a machine, which has not been started, what is kept; return which attempt left that, or
    nothing if its disk stays empty.

    Raises:
        RaveError: HOST if its disk cannot be made.
    """
    place = _place(owner, key)
    below = machine.directory / BELOW
    with _locked():
        kept = _current(place)
        if kept is None:
            return ""
        with paths.refusing(kept):
            # A name of its own: what takes its place, or removes it, does not take it from us.
            below.unlink(missing_ok=True)
            below.hardlink_to(kept)
            os.utime(place / RECORD)
    with paths.refusing(machine.cache_disk):
        machine.cache_disk.unlink(missing_ok=True)
    disks.make_disk(machine.cache_disk, f"{CACHE_GIB}G", below=BELOW)
    return kept.name.removesuffix(DISK)


def keep(owner: str, key: str, machine: Machine, left_by: str, *, most: int = MOST) -> None:
    """Keep what the disk of a machine has that has ended: all of it, in place of what was kept.

    Raises:
        RaveError: HOST if it cannot be kept. What was kept is kept still, then.
    """
    place = _place(owner, key)
    new = place / f".{left_by}{DISK}"
    paths.private_dir(place)
    try:
        argv = ("qemu-img", "convert", "-q", "-f", "qcow2", "-O", "qcow2")
        done = process.run((*argv, str(machine.cache_disk), str(new)), timeout=COPIES)
        if not done.ok:
            raise RaveError(
                f"the cache {key} cannot be kept: {' '.join(done.tail(1))}",
                hint="rave pool cache list; df -h",
                exit_code=ExitCode.HOST,
                detail=done.tail(),
            )
        with paths.refusing(new), new.open("rb") as stream:
            os.fsync(stream.fileno())
        with _locked(), paths.refusing(place):
            CACHE.write(place / RECORD, CacheRecord(owner, key))
            _put(new, place / f"{left_by}{DISK}")
    finally:
        new.unlink(missing_ok=True)
    prune(most)


def _put(new: Path, disk: Path) -> None:
    """Let a disk be what is kept. The caller holds the lock."""
    before = _current(disk.parent)
    new.rename(disk)
    link = disk.with_name(f".{CURRENT}")
    link.unlink(missing_ok=True)
    link.symlink_to(disk.name)
    link.rename(disk.with_name(CURRENT))
    paths.sync_dir(disk.parent)
    if before is not None and before != disk:
        before.unlink(missing_ok=True)


def kept_caches() -> list[KeptCache]:
    """Return what is kept, what was used last first."""
    found, places = [], []
    with suppress(FileNotFoundError):
        places = [*_folder().iterdir()]
    for place in places:
        # What is damaged, or removed meanwhile, is nothing that a job would get.
        with suppress(RaveError, OSError):
            found.append(_kept(place))
    return sorted((one for one in found if one is not None), key=lambda one: -one.used)


def _kept(place: Path) -> KeptCache | None:
    disk = _current(place)
    if disk is None:
        return None
    record = CACHE.read(place / RECORD, hint="rave pool cache prune")
    used = (place / RECORD).stat().st_mtime
    size = disk.stat().st_blocks * 512
    name = disk.name.removesuffix(DISK)
    return KeptCache(record.owner, record.key, name, size, used, place)


def remove(caches: list[KeptCache]) -> None:
    """Keep these no longer; a job that has one goes on with it.

    Raises:
        RaveError: HOST if one cannot be removed.
    """
    for one in caches:
        with _locked(), paths.refusing(one.place):
            shutil.rmtree(one.place)


def prune(most: int = MOST, *, unused: float | None = None) -> list[KeptCache]:
    """Remove what was not used for `unused` seconds, and then what was used longest ago until the
    rest takes `most` bytes; return what is gone.

    Raises:
        RaveError: as `remove`.
    """
    now, left, gone = time.time(), 0, []
    for one in kept_caches():
        left += one.size
        if left > most or (unused is not None and one.used < now - unused):
            left -= one.size
            gone.append(one)
    remove(gone)
    return gone


def sweep() -> None:
    """Remove what killed agents have left; nobody else may serve."""
    with suppress(OSError):
        for place in _folder().iterdir():
            kept = _current(place)
            for file in place.glob(f"*{DISK}"):
                if file != kept:
                    file.unlink(missing_ok=True)


def _current(place: Path) -> Path | None:
    """Return the disk that is kept in a folder, if there is one."""
    try:
        name = str((place / CURRENT).readlink())
    except OSError:
        return None
    disk = place / name
    return disk if "/" not in name and disk.is_file() else None


@contextmanager
def _locked() -> Iterator[None]:
    with paths.lock(paths.private_dir(folder()) / "caches.lock", busy=None):
        yield


def _place(owner: str, key: str) -> Path:
    """Return the folder of a cache: no part of its name is somebody's word."""
    name = hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()[:32]
    return paths.private_dir(_folder()) / name


def _folder() -> Path:
    return folder() / "caches"
