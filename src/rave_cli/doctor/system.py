"""Examinations of the host itself: programs, memory, disk, clock, package manager."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import nixstore, paths, process
from rave_cli.doctor.examination import Diagnosis, examination
from rave_cli.settings import find_repository

if TYPE_CHECKING:
    from collections.abc import Mapping

# MiB: the demo profile in SAFE mode with QEMU's own share, and its image with room to build it.
MEMORY_NEEDED = 2048 + 640
DISK_NEEDED = 8 * 1024

# Files that building the demo image makes: the closure's, unpacked once.
INODES_NEEDED = 100_000

# Unix socket addresses are 108 bytes with their NUL (unix(7)); the longest name of ours is
# "/" + a machine name of 63 + "/events.sock".
SOCKET_ROOM = 107 - 64 - len("/events.sock")

# Seconds by which a file may be newer than now before the clock is doubted.
AHEAD = 120.0

# Before this rave was not written: certificates and signatures of such a time are worth nothing.
EARLIEST = time.mktime((2026, 1, 1, 0, 0, 0, 0, 0, 0))

# Where dpkg and apt keep their state.
DPKG = Path("/var/lib/dpkg")
LISTS = Path("/var/lib/apt/lists")

# Days after which package lists are so old that what they name has left the archives.
LISTS_LAST = 60


@examination("packages", "are the programs there that rave runs?")
def packages() -> Diagnosis:
    """Look for every program on PATH."""
    missing = _missing(process.APT_PACKAGE)
    if not missing:
        return Diagnosis("ok", f"all {len(process.APT_PACKAGE)} host programs are there")
    return Diagnosis("fail", f"missing: {', '.join(missing)}", _install(missing))


@examination("test-packages", "are the programs there that `make test` runs besides?")
def test_packages() -> Diagnosis:
    """Ask for what `make test` needs besides; nobody but a contributor misses it."""
    here = paths.working_dir()
    checkout = find_repository(here) if here else None
    if checkout is None:
        return Diagnosis("skip", "not inside a checkout, so there are no tests")
    wanted = process.read_packages((checkout / "infra/host/test-packages").read_text())
    missing = _missing(wanted)
    if not missing:
        return Diagnosis("ok", f"all {len(wanted)} programs of `make test` are there")
    return Diagnosis("warn", f"`make test` needs besides: {', '.join(missing)}", _install(missing))


def _missing(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the tools that are not there, with their packages; a path is a file to look for."""
    return {
        tool: package
        for tool, package in sorted(wanted.items())
        if not (Path(tool).exists() if tool.startswith("/") else process.find(tool))
    }


def _install(missing: Mapping[str, str]) -> tuple[str, ...]:
    names = sorted(set(missing.values()))
    return as_root("apt-get", "install", "--yes", "--no-install-recommends", *names)


def as_root(*words: str) -> tuple[str, ...]:
    """Return a command as root runs it, without a question."""
    return words if os.getuid() == 0 else ("sudo", "-n", *words)


@examination("apt", "can packages be installed here?")
def apt() -> Diagnosis:
    """Look at the state of dpkg and apt; a host without them is not asked."""
    if process.find("apt-get") is None or not (DPKG / "status").exists():
        return Diagnosis("skip", "this host has no apt")
    if any((DPKG / "updates").glob("[0-9]*")):
        fix = as_root("dpkg", "--configure", "-a")
        return Diagnosis("fail", "dpkg was interrupted; nothing can be installed", fix)
    lists = list(LISTS.glob("*_Packages*")) + list(LISTS.glob("*_InRelease"))
    if not lists:
        fix = as_root("apt-get", "update")
        return Diagnosis("warn", "apt has no package lists, so that it finds no package", fix)
    age = int((time.time() - max(place.stat().st_mtime for place in lists)) // 86400)
    if age > LISTS_LAST:
        fix = as_root("apt-get", "update")
        return Diagnosis("warn", f"apt's package lists are {age} days old", fix)
    return Diagnosis("ok", f"dpkg is in order, apt's package lists are {max(age, 0)} days old")


@examination("memory", "is there memory for a machine?")
def memory() -> Diagnosis:
    """Compare what is available with what the demo profile needs."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    free = available // 1024
    return Diagnosis(
        "ok" if free >= MEMORY_NEEDED else "fail",
        f"{free} MiB available, demo needs {MEMORY_NEEDED} MiB",
        advice="" if free >= MEMORY_NEEDED else "rave vm list   (a machine that may be stopped)",
        facts={"availableMiB": free, "neededMiB": MEMORY_NEEDED},
    )


@examination("disk", "is there space for an image and a machine?")
def disk() -> Diagnosis:
    """Compare the free space of each file system that rave writes to with what demo needs."""
    free = {place: shutil.disk_usage(place).free // 2**20 for place in _places()}
    worst = min(free, key=lambda place: free[place])
    good = free[worst] >= DISK_NEEDED
    return Diagnosis(
        "ok" if good else "fail",
        f"{free[worst]} MiB free at {worst}, demo needs up to {DISK_NEEDED} MiB",
        advice="" if good else "rave prune --dry-run",
        facts={"freeMiB": {str(place): mib for place, mib in free.items()}},
    )


@examination("inodes", "can so many files be made?")
def inodes() -> Diagnosis:
    """Compare the free inodes of each file system; some have as many as they need."""
    free = {place: found.f_favail for place in _places() if (found := os.statvfs(place)).f_files}
    if not free:
        return Diagnosis("ok", "the file systems have as many inodes as they need")
    worst = min(free, key=lambda place: free[place])
    good = free[worst] >= INODES_NEEDED
    return Diagnosis(
        "ok" if good else "fail",
        f"{free[worst]} inodes free at {worst}, an image takes up to {INODES_NEEDED}",
        advice="" if good else f"du --inodes -xd2 {worst} | sort -n   (who takes them)",
        facts={"freeInodes": {str(place): count for place, count in free.items()}},
    )


def _places() -> list[Path]:
    places = (paths.data_dir(), paths.cache_dir(), nixstore.directory())
    return sorted({_existing(place) for place in places})


def _existing(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())


@examination("runtime", "can machines have their sockets?")
def runtime() -> Diagnosis:
    """Make the runtime directory; it must be ours alone, and short enough for a socket's name."""
    place = paths.private_dir(paths.runtime_dir())
    if len(os.fsencode(place)) > SOCKET_ROOM:
        return Diagnosis(
            "fail", f"{place} is too long for the sockets of machines",
            advice="set XDG_RUNTIME_DIR to a shorter directory",
        )  # fmt: skip
    return Diagnosis("ok", f"{place} is private")


@examination("clock", "does the clock tell the time?")
def clock() -> Diagnosis:
    """Compare the time with what rave wrote before: a clock that went back has newer files."""
    now = time.time()
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    advice = "timedatectl set-ntp true, or set it by hand: date -s"
    if now < EARLIEST:
        return Diagnosis("fail", f"the clock says {told}: no certificate is valid yet", (), advice)
    newest = max((_changed(place) for place in _written()), default=0.0)
    if newest > now + AHEAD:
        detail = f"the clock says {told}, and files of rave are {newest - now:.0f} s newer"
        return Diagnosis("warn", detail, (), advice, {"behindSeconds": round(newest - now)})
    return Diagnosis("ok", told)


def _written() -> list[Path]:
    """Return the records that rave has written: of machines, images and secrets."""
    folders = (paths.data_dir(), paths.state_dir(), paths.cache_dir())
    return [place for folder in folders for place in folder.glob("**/*.json")][:1000]


def _changed(place: Path) -> float:
    try:
        return place.lstat().st_mtime
    except OSError:
        return 0.0
