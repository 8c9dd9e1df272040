"""Ports of this host that an operator adds to a running machine, and takes away again."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu import added, ports, usernet
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.machines.qemu.usernet import ANSWERS, LOOPBACK, TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.qemu.added import HostForward
    from rave_cli.machines.spec import Forward, Machine


@dataclass(frozen=True)
class ListedForward:
    """A forward, and whether an operator added it since the machine started."""

    forward: HostForward
    added: bool

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        forward = self.forward
        return {
            "address": forward.address,
            "host": forward.host,
            "guest": forward.guest,
            "added": self.added,
        }


def listed(machine: Machine) -> tuple[ListedForward, ...]:
    """Return the forwards of a running machine, but for those of a command that tries ports.

    Raises:
        RaveError: NOT_READY if it does not run or QEMU does not answer.
    """
    with _monitor(machine) as monitor:
        usernet.forwards(monitor, machine, timeout=ANSWERS)
        known = added.read(machine)
        return tuple(
            ListedForward(forward, forward in known)
            for forward in sorted(_table(monitor), key=lambda f: (f.guest, f.address, f.host))
            if forward.address != TEMPORARY
        )


def add(machine: Machine, wanted: Forward, *, address: str = LOOPBACK) -> HostForward:
    """Let a port of this host lead into a running machine until that stops.

    Args:
        machine: the machine.
        wanted: host port, 0 for any free one, and guest port.
        address: the address of this host to listen on.

    Raises:
        RaveError: USAGE if the guest's firewall closes the port, or the address is none; HOST if
            the port of the host cannot be had; NOT_READY if the machine does not run.
    """
    _refuse_closed(machine, wanted)
    with _monitor(machine) as monitor, usernet.only_one(machine):
        before = _table(monitor)
        for other in before:
            if other.host == wanted.host and other.address in (address, "0.0.0.0", "*"):  # noqa: S104 - read, not bound
                raise _refused(f"{other} is a forward of machine {machine.name} already", machine)
        _refuse_taken(address, wanted.host)
        place = f"tcp:{address}:{wanted.host}-:{wanted.guest}"
        said = monitor.human(f"hostfwd_add net0 {place}", timeout=ANSWERS).strip()
        new = [forward for forward in _table(monitor) if forward not in before]
        if not new:
            raise _refused(f"QEMU adds no forward: {said or 'it does not say why'}", machine)
        added.write(machine, {*_still(before, machine), *new})
        return new[0]


def remove(machine: Machine, host: int) -> HostForward:
    """Take away a forward that was added; open connections stay.

    Raises:
        RaveError: USAGE if no such forward was added; NOT_READY if the machine does not run.
    """
    with _monitor(machine) as monitor, usernet.only_one(machine):
        table = _table(monitor)
        known = _still(table, machine)
        found = next((forward for forward in known if forward.host == host), None)
        if found is None:
            own = any(forward.host == host for forward in table)
            raise RaveError(
                f"port {host} is one that machine {machine.name} was made with; it goes when the"
                " machine stops" if own else
                f"no forward from port {host} was added to machine {machine.name}",
                hint=f"rave vm forward list {machine.name}",
                exit_code=ExitCode.USAGE,
            )  # fmt: skip
        order = f"hostfwd_remove net0 tcp:{found.address}:{found.host}"
        said = monitor.human(order, timeout=ANSWERS).strip()
        if found in _table(monitor):
            raise _refused(f"QEMU keeps the forward: {said or 'it does not say why'}", machine)
        added.write(machine, known - {found})
        return found


@contextmanager
def _monitor(machine: Machine) -> Iterator[Qmp]:
    with (
        ports.answering(machine),
        Qmp.connect(machine.qmp_socket, timeout=ANSWERS) as monitor,
    ):
        yield monitor


def _table(monitor: Qmp) -> list[HostForward]:
    return usernet.parse(monitor.human("info usernet", timeout=ANSWERS))


def _still(table: list[HostForward], machine: Machine) -> frozenset[HostForward]:
    """Return what was added and is still there."""
    return added.read(machine) & frozenset(table)


def _refuse_closed(machine: Machine, wanted: Forward) -> None:
    """Refuse a guest port that the guest's firewall closes: whoever connects would wait in vain.

    A machine is made with a forward to each port that its plan exposes.
    """
    exposed = sorted({forward.guest for forward in machine.spec.forwards})
    if wanted.guest not in exposed:
        raise RaveError(
            f"the firewall of machine {machine.name} closes port {wanted.guest}, so a connection"
            f" would only hang; it admits {', '.join(map(str, exposed))}",
            hint=f"rave vm ssh {machine.name} -- -N -L {wanted.host or wanted.guest}:localhost:"
            f"{wanted.guest}",
            exit_code=ExitCode.USAGE,
        )


def _refuse_taken(address: str, port: int) -> None:
    """Refuse an address that cannot be listened on, with the reason that QEMU would not give."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = f"ss -ltnp 'sport = :{port}' shows by whom; 0 takes any free port"
        elif error.errno == errno.EACCES:
            hint = "ports below 1024 are root's (ip_unprivileged_port_start); take a higher one"
        else:
            hint = "ip -brief address   (the addresses of this host)"
        why = os.strerror(error.errno) if error.errno else str(error)
        raise RaveError(
            f"{address}:{port} of this host cannot be had: {why}",
            hint=hint,
            exit_code=ExitCode.HOST,
        ) from error


def _refused(why: str, machine: Machine) -> RaveError:
    return RaveError(why, hint=f"rave vm forward list {machine.name}", exit_code=ExitCode.HOST)
