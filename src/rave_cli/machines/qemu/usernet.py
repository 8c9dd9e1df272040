"""QEMU's user network: which ports of this host lead into a machine, and forwards for a while.

A forward that a command adds to a running machine survives the command if that is killed. So each
listens on an address of its own, by which the next command knows it and takes it back.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.machines.qemu import added
from rave_cli.machines.qemu.added import HostForward
from rave_cli.machines.qemu.qmp import MonitorGoneError, Qmp, QmpError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from rave_cli.machines.spec import Machine

LOOPBACK = "127.0.0.1"

# Where forwards for a while listen: like all of 127/8 it is loopback; the bytes spell "rav".
TEMPORARY = "127.114.97.118"

# Rave 0.1.0 drew the ports of such forwards from these, on LOOPBACK.
DRAWN = range(20000, 60000)

# Seconds in which QEMU answers.
ANSWERS = 10.0

# A row of `info usernet`: protocol[state] fd source-address port destination-address port …
_ROW = re.compile(
    r"^\s*TCP\[HOST_FORWARD\]\s+\d+\s+(?P<address>\S+)\s+(?P<host>\d+)\s+\S+\s+(?P<guest>\d+)\s",
    re.MULTILINE,
)


def parse(table: str) -> list[HostForward]:
    """Return the forwards of a table that `info usernet` printed."""
    return [
        HostForward(row["address"], int(row["host"]), int(row["guest"]))
        for row in _ROW.finditer(table)
    ]


def forwards(monitor: Qmp, machine: Machine, *, timeout: float) -> dict[int, int]:
    """Return guest port -> port of 127.0.0.1 of a running machine. What a killed command left is
    taken back.

    Raises:
        QmpError: if its monitor does not answer within `timeout` seconds.
    """
    found = parse(monitor.human("info usernet", timeout=timeout))
    stray = [forward for forward in found if _is_stray(forward, machine)]
    if stray:
        # Whoever holds the lock is alive and takes its own back.
        with suppress(RaveError), only_one(machine):
            _remove(monitor, stray)
    others = {*stray, *_added(machine)}
    return {f.guest: f.host for f in found if f.address == LOOPBACK and f not in others}


@contextmanager
def temporary(machine: Machine, guests: Iterable[int]) -> Iterator[dict[int, tuple[str, int]]]:
    """Forward ports of the host to ports of the guest for as long as the context lasts.

    The monitor, which serves one client at a time, is free meanwhile.

    Yields:
        for each guest port the address that leads to it.

    Raises:
        QmpError: if the monitor does not do it.
        RaveError: HOST if another command does the same.
    """
    with only_one(machine):
        try:
            with Qmp.connect(machine.qmp_socket, timeout=ANSWERS) as monitor:
                for guest in guests:
                    _add(monitor, guest)
                table = parse(monitor.human("info usernet", timeout=ANSWERS))
            yield {f.guest: (f.address, f.host) for f in table if f.address == TEMPORARY}
        finally:
            with (
                suppress(MonitorGoneError),
                Qmp.connect(machine.qmp_socket, timeout=ANSWERS) as monitor,
            ):
                table = parse(monitor.human("info usernet", timeout=ANSWERS))
                _remove(monitor, (f for f in table if _is_stray(f, machine)))


def take_back(machine: Machine) -> None:
    """Remove the forwards for a while that a command which ends now has added."""
    with (
        suppress(QmpError),
        Qmp.connect(machine.qmp_socket, timeout=ANSWERS) as monitor,
    ):
        table = parse(monitor.human("info usernet", timeout=ANSWERS))
        _remove(monitor, (forward for forward in table if _is_stray(forward, machine)))


def only_one(machine: Machine) -> AbstractContextManager[None]:
    """Hold the right to change a machine's forwards.

    Raises:
        RaveError: HOST if another command has it.
    """
    return paths.lock(
        machine.runtime / "forwards.lock",
        busy=f"another rave command tries the ports of machine {machine.name}",
    )


def _is_stray(forward: HostForward, machine: Machine) -> bool:
    """Return whether a forward is one for a while."""
    if forward.address != LOOPBACK:
        return forward.address == TEMPORARY
    own = {asked.guest for asked in machine.spec.forwards}
    drawn = forward.guest not in own and forward.host in DRAWN
    return drawn and forward not in _added(machine)


def _added(machine: Machine) -> frozenset[HostForward]:
    """Return what an operator added; whoever only looks does not fail because of the list."""
    try:
        return added.read(machine)
    except RaveError:
        return frozenset()


def _add(monitor: Qmp, guest: int) -> None:
    """Add a forward from any free port; QEMU says nothing if it did."""
    said = monitor.human(f"hostfwd_add net0 tcp:{TEMPORARY}:0-:{guest}", timeout=ANSWERS)
    if said.strip():
        raise QmpError(f"no forward to port {guest}: {said.strip()}")


def _remove(monitor: Qmp, stray: Iterable[HostForward]) -> None:
    for forward in stray:
        place = f"tcp:{forward.address}:{forward.host}"
        monitor.human(f"hostfwd_remove net0 {place}", timeout=ANSWERS)
