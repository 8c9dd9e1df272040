"""The command channel: programs in a guest over a virtio-serial port that only our account opens.

An SSH handshake costs a TCG guest over a second of CPU time; here a program is started in some
hundredths. QEMU serves one client at a time, so that whoever finds the channel in use, or a guest
that does not serve it, goes by SSH (connection.py).
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.machines.guest.channel import CommandChannel
from rave_cli.machines.qemu.argv import COMMAND
from rave_cli.machines.qemu.qmp import Qmp, QmpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine

# Seconds for the guest to answer a greeting, for another command to leave the channel to us, and
# for QEMU's monitor.
GREETS = 5.0
LEAVES = 0.3
MONITOR_ANSWERS = 2.0


@contextmanager
def connect(
    machine: Machine, *, timeout: float = GREETS, instance: str | None = None
) -> Iterator[CommandChannel | None]:
    """Open the channel of a running machine; None if it has none, its guest does not serve it, it
    is in use, or nobody answers within `timeout` seconds. `instance` is what its guest calls
    itself, if that is not yet its own id.

    Raises:
        AnotherGuestError: NOT_READY if another instance answers.
        RaveError: HOST if the lock beside the socket cannot be made.
    """
    with _reserved(machine) as ours, socket.socket(socket.AF_UNIX) as connection:
        channel = CommandChannel(connection, machine.name)
        who = instance or machine.spec.instance_id
        yield channel if ours and _opened(channel, connection, machine, who, timeout) else None


def _opened(
    channel: CommandChannel,
    connection: socket.socket,
    machine: Machine,
    instance: str,
    timeout: float,
) -> bool:
    if not served(machine):
        return False
    deadline = time.monotonic() + timeout
    try:
        connection.settimeout(timeout)
        connection.connect(os.fspath(machine.command_socket))
    except OSError:
        return False
    return channel.greet(instance, deadline)


def served(machine: Machine) -> bool:
    """Return whether the guest has its end of the channel open, as QEMU sees it."""
    try:
        with Qmp.connect(machine.qmp_socket, timeout=MONITOR_ANSWERS) as monitor:
            found = monitor.execute("query-chardev", timeout=MONITOR_ANSWERS)
    except QmpError:
        return False
    return any(entry.get("label") == COMMAND and entry.get("frontend-open") for entry in found)


@contextmanager
def _reserved(machine: Machine) -> Iterator[bool]:
    """Keep other commands from the channel; yields whether it is ours, soon enough."""
    if not machine.command_socket.exists():
        yield False
        return
    place = machine.command_socket.with_suffix(".lock")
    with paths.refusing(place):
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield _soon_ours(fd)
    finally:
        os.close(fd)


def _soon_ours(fd: int) -> bool:
    until = time.monotonic() + LEAVES
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        else:
            return True
