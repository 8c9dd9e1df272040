"""What really runs: finds a machine's QEMU in /proc and signals it without racing pid reuse."""

from __future__ import annotations

import os
import re
import select
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.machines.qemu.argv import accelerator_of, chardev, disk_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rave_cli.machines.qemu.program import Kind
    from rave_cli.machines.spec import Machine

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A running process. `ticks` is its start time as the kernel counts it, which together with the
    pid names it for good; `started` is the same in seconds on the clock of time.monotonic();
    `cpu_seconds` is what it has used of all processors since.
    """

    pid: int
    argv: tuple[str, ...]
    ticks: int
    started: float
    resident_mib: int
    cpu_seconds: float = 0.0

    @property
    def accelerator(self) -> Kind:
        """The accelerator that it runs its guest with."""
        return accelerator_of(self.argv)

    @property
    def runtime(self) -> Path | None:
        """The directory of its sockets: whoever started it chose that, whoever asks now."""
        monitor = chardev(self.argv, "qmp")
        return monitor.parent if monitor is not None else None

    @property
    def directory(self) -> Path | None:
        """The directory of the machine that it runs, as it was named when it was started."""
        disk = disk_of(self.argv)
        return disk.parent if disk is not None else None


def placed(machine: Machine, among: Sequence[Process] | None = None) -> Machine:
    """Return a machine with the runtime directory that its QEMU was given, if it runs.

    `among` is what `machines` found, for whoever asks about several.
    """
    running = find(machine, among)
    place = running.runtime if running is not None else None
    return replace(machine, runtime=place) if place is not None else machine


def find(machine: Machine, among: Sequence[Process] | None = None) -> Process | None:
    """Return our QEMU process that runs this machine, or None.

    The argv is the evidence: a stored pid may since belong to another program. A copy of the
    machine's directory has its uuid, but another disk. `among` is what `machines` found, for
    whoever asks about several.
    """
    return _first(lambda argv: _runs(argv, machine) and not _elsewhere(argv, machine), among)


def find_original(machine: Machine, among: Sequence[Process] | None = None) -> Process | None:
    """Return the QEMU process of the machine that this one is a copy of, made with its whole
    directory: the two have one uuid.
    """
    return _first(lambda argv: _runs(argv, machine) and _elsewhere(argv, machine), among)


def machines() -> list[Process]:
    """Return every QEMU of ours that runs a machine of rave, found in one look at /proc."""
    found = (_describe(entry, argv) for entry, argv in _processes() if disk_of(argv) is not None)
    return [process for process in found if process is not None]


def with_pid(pid: int) -> Process | None:
    """Return our process that has this pid now, whatever it is; None if there is none."""
    entry = PROC / str(pid)
    argv = _argv(entry)
    return _describe(entry, argv) if argv else None


def proportional_mib(process: Process) -> int | None:
    """Return the MiB of a process with what it shares divided among those who do (Pss of
    proc_pid_smaps(5)); None if that cannot be read.
    """
    try:
        text = (PROC / str(process.pid) / "smaps_rollup").read_text()
    except OSError:
        return None
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) >> 10 if found else None


def _runs(argv: tuple[str, ...], machine: Machine) -> bool:
    return ("-uuid", machine.spec.uuid) in pairwise(argv)


def _elsewhere(argv: tuple[str, ...], machine: Machine) -> bool:
    """Return whether a QEMU works in another directory than the machine's.

    One that is not there any more has been moved, with the machine in it.
    """
    disk = disk_of(argv)
    try:
        return disk is not None and not disk.parent.samefile(machine.directory)
    except OSError:
        return False


def find_by_directory(directory: Path) -> Process | None:
    """Return our QEMU process that has its disk in `directory`: the way to a machine whose record,
    and with it the uuid, is lost.
    """
    return _first(lambda argv: disk_of(argv) == directory / "disk.qcow2")


def _first(
    matches: Callable[[tuple[str, ...]], bool], among: Sequence[Process] | None = None
) -> Process | None:
    if among is not None:
        return next((process for process in among if matches(process.argv)), None)
    found = (entry for entry in _processes() if matches(entry[1]))
    first = next(found, None)
    return _describe(*first) if first is not None else None


def _processes() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield every process of ours: its place in /proc, and its argv."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            argv = _argv(entry)
            if argv:
                yield entry, argv


def _argv(entry: Path) -> tuple[str, ...]:
    """Return the argv of a process of ours; empty for zombies and other people's processes."""
    try:
        if entry.stat().st_uid != os.getuid():
            return ()
        raw = (entry / "cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(os.fsdecode(word) for word in raw.rstrip(b"\0").split(b"\0")) if raw else ()


def _describe(entry: Path, argv: tuple[str, ...]) -> Process | None:
    fields = _stat(entry)
    if fields is None:
        return None
    ticks = int(fields[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") >> 20
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Process(int(entry.name), argv, ticks, time.monotonic() - age, resident, used)


def _stat(entry: Path) -> list[str] | None:
    """Return the fields of proc(5) stat from the third on: 14 and 15 (here 11 and 12) are
    utime and stime, 22 is starttime, 24 is rss.
    """
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def hold(process: Process) -> int | None:
    """Return a pidfd that stands for exactly this process, or None if it is gone."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # The pid may have been reused between the scan and the open.
    fields = _stat(PROC / str(process.pid))
    if fields is not None and int(fields[19]) == process.ticks:
        return fd
    os.close(fd)
    return None


@contextmanager
def held(process: Process) -> Iterator[int | None]:
    """Yield what `hold` returns, and give it back."""
    fd = hold(process)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def ended(pidfd: int, timeout: float) -> bool:
    """Return whether the process of a pidfd ends within `timeout` seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def send(pidfd: int, number: signal.Signals) -> None:
    """Send a signal to the process of a pidfd; one that is gone does not mind."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
