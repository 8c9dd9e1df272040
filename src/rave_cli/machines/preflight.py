"""What must hold on the host before a machine may start."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.manifest import quick_check
from rave_cli.machines import labels, underway
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.argv import from_template, memory_of
from rave_cli.machines.qemu.caps import OVERHEAD
from rave_cli.machines.qemu.qmp import check_socket_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.qemu.processes import Process
    from rave_cli.machines.qemu.program import Kind
    from rave_cli.machines.spec import Forward, Machine

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


# Seconds in which a machine takes its memory as it boots; 10 under TCG on an idle host.
BOOTS = 120.0


def check(machine: Machine) -> None:
    """Refuse a start that cannot go well. Whether there is memory, `admitted` finds out.

    Raises:
        RaveError: HOST if the image is gone or truncated, a disk is gone or another machine's, or a
            socket's path would be too long.
    """
    check_socket_path(machine.event_socket)
    underway.refuse_half(machine)
    quick_check(machine.spec.image)
    refuse_half_restored(machine)
    for disk in machine.disks:
        if not disk.is_file():
            raise RaveError(
                f"the disk of machine {machine.name} is gone ({disk})",
                hint=f"put {disk} back from a copy; without it the machine is lost, and"
                f" rave vm delete {machine.name} removes the rest",
                exit_code=ExitCode.HOST,
            )
    _check_base(machine)
    labels.refuse_foreign(machine)


@contextmanager
def admitted(machine: Machine, kind: Kind) -> Iterator[None]:
    """Keep others from starting a machine while this one's QEMU is started, if there is memory for
    it. Of several of one place that are started at once, each counts those before it.

    Raises:
        RaveError: HOST if the memory is not there.
    """
    with paths.lock(paths.data_dir() / "starting.lock", busy=None):
        available = available_mib()
        beside = [found for found in processes.machines() if _beside(machine, found)]
        promised = sum(promised_mib(found, time.monotonic()) for found in beside)
        check_memory(machine, kind, None if available is None else max(0, available - promised))
        yield


def _beside(machine: Machine, found: Process) -> bool:
    return found.directory is not None and found.directory.parent == machine.directory.parent


def promised_mib(process: Process, now: float) -> int:
    """Return the MiB that a machine which boots has not taken yet. `now` is on the clock of
    time.monotonic(). What runs on a template's memory shares most of it.
    """
    if now - process.started > BOOTS or from_template(process.argv):
        return 0
    return max(0, needed_mib(memory_of(process.argv), process.accelerator) - process.resident_mib)


def needed_mib(memory_mib: int, kind: Kind) -> int:
    """Return the MiB that a machine whose guest has `memory_mib` needs of the host."""
    # Only KVM and TCG's own needs are added, not their worst case: guests seldom fill their memory.
    return memory_mib + OVERHEAD[kind] // 2


def refuse_half_restored(machine: Machine) -> None:
    """Refuse a machine whose disks are of two moments, for a command that put a snapshot back was
    killed between them.

    Raises:
        RaveError: HOST.
    """
    if not machine.half_restored.exists():
        return
    with paths.refusing(machine.half_restored):
        snapshot = machine.half_restored.read_text()
    raise RaveError(
        f"machine {machine.name} is half put back to its snapshot {snapshot}: that command was"
        " killed between one disk and the other",
        hint=f"rave vm snapshot restore {machine.name} {snapshot} completes it",
        exit_code=ExitCode.HOST,
    )


def _check_base(machine: Machine) -> None:
    """Refuse a machine whose disk builds on a template's that was changed since."""
    origin = machine.spec.template
    if origin is None:
        return
    try:
        found = machine.base_disk.stat()
    except OSError:
        stamp = None
    else:
        stamp = (found.st_size, found.st_mtime_ns)
    if stamp != origin.disk:
        raise RaveError(
            f"{machine.base_disk} {'is gone' if stamp is None else 'was changed'}: the disk of"
            f" machine {machine.name} builds on it",
            hint=f"put {machine.base_disk} back from a copy; without it the machine is lost",
            exit_code=ExitCode.HOST,
        )


def check_memory(machine: Machine, kind: Kind, available: int | None) -> None:
    """Refuse if the host cannot give the guest its memory. `available` in MiB, None if unknown.

    Raises:
        RaveError: HOST.
    """
    needed = needed_mib(machine.spec.memory_mib, kind)
    if available is not None and available < needed:
        raise RaveError(
            f"machine {machine.name} needs {needed} MiB of memory and the host has {available} MiB"
            " available",
            hint="rave vm list shows what runs, and what starts has yet to take its own; stop a"
            " machine, or launch with --mode safe or a smaller --memory",
            exit_code=ExitCode.HOST,
        )


def check_ports(forwards: tuple[Forward, ...]) -> None:
    """Refuse host ports that another program has. QEMU finds out too, but after the machine exists.

    Raises:
        RaveError: HOST.
    """
    for forward in forwards:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", forward.host))
            except OSError as error:
                raise port_taken("127.0.0.1", forward.host, error.strerror) from error


def port_taken(address: str, port: int | str, why: str | None = None) -> RaveError:
    """Return the error of a host port that cannot be had."""
    return RaveError(
        f"port {address}:{port} of the host is taken by another program"
        if why in (None, os.strerror(errno.EADDRINUSE))
        else f"port {address}:{port} of the host cannot be used: {why}",
        hint=f"ss -ltnp 'sport = :{port}' shows by whom; launch with another --port, or with host"
        " port 0 for any free one",
        exit_code=ExitCode.HOST,
    )


def available_mib() -> int | None:
    """Return the MiB that may still be used here: the host's, or less where a cgroup says so."""
    limits = [limit for limit in (_meminfo(), _cgroup()) if limit is not None]
    return min(limits) if limits else None


def _meminfo() -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) >> 10 if found else None


def _cgroup() -> int | None:
    """Return what the cgroup v2 at the root of this mount namespace leaves: a container's limit."""
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return max(0, limit - used) >> 20
