"""What must hold on the host before a machine may start."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.manifest import quick_check
from rave_cli.machines.qemu.caps import OVERHEAD
from rave_cli.machines.qemu.qmp import check_socket_path

if TYPE_CHECKING:
    from rave_cli.machines.qemu.program import Kind
    from rave_cli.machines.spec import Forward, Machine

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def check(machine: Machine, kind: Kind) -> None:
    """Refuse a start that cannot go well.

    Raises:
        RaveError: HOST if the image is gone or truncated, the disk is gone, the memory is not
            there, or a socket's path would be too long.
    """
    check_socket_path(machine.event_socket)
    quick_check(machine.spec.image)
    if not machine.disk.is_file():
        raise RaveError(
            f"the disk of machine {machine.name} is gone ({machine.disk})",
            hint=f"put {machine.disk} back from a copy; without it the machine is lost, and"
            f" rave vm delete {machine.name} removes the rest",
            exit_code=ExitCode.HOST,
        )
    _check_base(machine)
    check_memory(machine, kind, available_mib())


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
    # Only KVM and TCG's own needs are added, not their worst case: guests seldom fill their memory.
    needed = machine.spec.memory_mib + OVERHEAD[kind] // 2
    if available is not None and available < needed:
        raise RaveError(
            f"machine {machine.name} needs {needed} MiB of memory and the host has {available} MiB"
            " available",
            hint="rave vm list shows what runs; stop a machine, or launch with --mode safe or a"
            " smaller --memory",
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
