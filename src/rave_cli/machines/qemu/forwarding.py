"""Ports of this host that an operator adds to a running machine, and takes away again."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu import added, ports, processes, usernet
from rave_cli.machines.qemu.added import HostForward
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.machines.qemu.usernet import ANSWERS, LOOPBACK, TEMPORARY
from rave_cli.machines.spec import Forward

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine


@dataclass(frozen=True)
class ListedForward:
    """A forward, whether an operator added it, and whether it is added again at each start."""

    forward: HostForward
    added: bool
    kept: bool = False

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        forward = self.forward
        return {
            "address": forward.address,
            "host": forward.host,
            "guest": forward.guest,
            "added": self.added,
            "kept": self.kept,
        }


def listed(machine: Machine) -> tuple[ListedForward, ...]:
    """Return the forwards of a running machine, but for those of a command that tries ports.

    Raises:
        RaveError: NOT_READY if it does not run or QEMU does not answer.
    """
    with _monitor(machine) as monitor:
        usernet.forwards(monitor, machine, timeout=ANSWERS)
        known, kept = added.read(machine), added.kept(machine)
        return tuple(
            ListedForward(forward, forward in known, forward in kept)
            for forward in sorted(_table(monitor), key=lambda f: (f.guest, f.address, f.host))
            if forward.address != TEMPORARY
        )


def add(
    machine: Machine, wanted: Forward, *, address: str = LOOPBACK, keep: bool = False
) -> HostForward:
    """Let a port of this host lead into a running machine until that stops.

    Args:
        machine: the machine.
        wanted: host port, 0 for any free one, and guest port.
        address: the address of this host to listen on.
        keep: add the same again whenever the machine starts; one that is there is kept from now on.

    Raises:
        RaveError: USAGE if the guest's firewall closes the port, or the address is none; HOST if
            the port of the host cannot be had; NOT_READY if the machine does not run.
    """
    _refuse_closed(machine, wanted)
    with _monitor(machine) as monitor, usernet.only_one(machine):
        before = _table(monitor)
        there = HostForward(address, wanted.host, wanted.guest)
        if keep and there in _still(before, machine):
            added.keep(machine, {*added.kept(machine), there})
            return there
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
        if keep:
            added.keep(machine, {*added.kept(machine), new[0]})
        return new[0]


def restore(machine: Machine) -> tuple[str, ...]:
    """Add the kept forwards to a machine that has started; return what is to be told of those that
    could not be had. The machine runs on without them.
    """
    told = []
    try:
        wanted = added.kept(machine) - added.read(machine)
    except RaveError as error:
        return (f"{error.message}; {error.hint}",)
    for forward in sorted(wanted):
        try:
            add(machine, Forward(forward.host, forward.guest), address=forward.address)
        except RaveError as error:
            told.append(f"the kept forward {forward} is missing: {error.message}; {error.hint}")
    return tuple(told)


def remove(machine: Machine, host: int) -> HostForward:
    """Take away a forward that was added, for good if it was kept; open connections stay.

    Raises:
        RaveError: USAGE if no such forward was added; NOT_READY if the machine does not run.
    """
    lost = next((forward for forward in added.kept(machine) if forward.host == host), None)
    if lost is not None:
        added.keep(machine, added.kept(machine) - {lost})
        if processes.find(machine) is None:
            return lost
    with _monitor(machine) as monitor, usernet.only_one(machine):
        table = _table(monitor)
        known = _still(table, machine)
        found = next((forward for forward in known if forward.host == host), None)
        if found is None and lost is not None:
            return lost
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
