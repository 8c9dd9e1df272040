"""Which ports of this host lead into a running machine, as its QEMU says."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu import processes, usernet
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.qemu.usernet import LOOPBACK
from rave_cli.machines.spec import SSH_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rave_cli.machines.spec import Machine

# Seconds in which QEMU answers on its monitor, and in which an sshd greets that is there at all.
MONITOR_ANSWERS = 5.0
GREETS = 5.0


def of(machine: Machine) -> dict[int, int]:
    """Return guest port -> port of 127.0.0.1 of a running machine.

    Raises:
        RaveError: NOT_READY if it does not run or QEMU does not answer.
    """
    with answering(machine):
        return asked(machine)


@contextmanager
def answering(machine: Machine) -> Iterator[None]:
    """Say what it means if a machine's QEMU cannot be asked.

    Raises:
        RaveError: NOT_READY if it does not run or QEMU does not answer.
    """
    _running(machine)
    try:
        yield
    except QmpError as error:
        raise _silent(machine, error) from error


def ssh(machine: Machine) -> int:
    """Return the port of 127.0.0.1 that leads to a running machine's sshd.

    Raises:
        RaveError: NOT_READY if it does not run, does not answer or forwards no such port.
    """
    running = _running(machine)
    try:
        found = asked(machine, timeout=MONITOR_ANSWERS).get(SSH_PORT)
    except QmpError as error:
        # QEMU cannot be asked; what it listens on can be seen, and only an sshd greets.
        found = _greeting(listening(running.pid))
        if found is None:
            raise _silent(machine, error) from error
    if found is None:
        raise RaveError(
            f"machine {machine.name} forwards no port to its SSH server",
            hint=f"rave vm stop {machine.name}; rave vm start {machine.name} --dry-run shows its"
            " forwards",
            exit_code=ExitCode.NOT_READY,
        )
    return found


def asked(machine: Machine, *, timeout: float = MONITOR_ANSWERS) -> dict[int, int]:
    """Return guest port -> host port of a running machine, as QEMU itself says.

    Raises:
        QmpError: NOT_READY if its monitor does not answer.
    """
    with Qmp.connect(machine.qmp_socket, timeout=timeout) as monitor:
        return usernet.forwards(monitor, machine, timeout=timeout)


def listening(pid: int) -> tuple[int, ...]:
    """Return the TCP ports of 127.0.0.1 on which a process listens (proc_pid_fd(5),
    proc_pid_net(5)).
    """
    folder = processes.PROC / str(pid)
    try:
        links = {link for entry in (folder / "fd").iterdir() if (link := _leads(entry))}
        rows = [row.split() for row in (folder / "net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return ()
    return tuple(
        int(row[1].split(":")[1], 16)
        for row in rows
        if row[3] == "0A" and row[1].startswith("0100007F:") and f"socket:[{row[9]}]" in links
    )


def _leads(descriptor: Path) -> str | None:
    """Return what a descriptor leads to; None if it was closed since it was listed."""
    try:
        return str(descriptor.readlink())
    except OSError:
        return None


def _greeting(candidates: Sequence[int]) -> int | None:
    """Return the port of 127.0.0.1 behind which an SSH server greets; None if there is none."""
    with ExitStack() as stack, DefaultSelector() as waiting:
        for port in candidates:
            with suppress(OSError):
                address = (LOOPBACK, port)
                connection = stack.enter_context(socket.create_connection(address, GREETS))
                waiting.register(connection, EVENT_READ, port)
        deadline = time.monotonic() + GREETS
        while waiting.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                with suppress(OSError):
                    if os.read(key.fd, 4) == b"SSH-":
                        return int(key.data)
                waiting.unregister(key.fileobj)
    return None


def _running(machine: Machine) -> processes.Process:
    found = processes.find(machine)
    if found is None:
        raise not_running(machine)
    return found


def not_running(machine: Machine) -> RaveError:
    """Return the error of a machine that does not run, with what makes it run."""
    if machine.suspended.is_dir():
        state, verb = "suspended", "resume"
    else:
        state, verb = "not running", "start"
    return RaveError(
        f"machine {machine.name} is {state}",
        hint=f"rave vm {verb} {machine.name}",
        exit_code=ExitCode.NOT_READY,
    )


def _silent(machine: Machine, error: QmpError) -> RaveError:
    return RaveError(
        f"machine {machine.name} does not answer: {error.message}",
        hint=f"rave vm status {machine.name}; rave vm stop {machine.name}",
        exit_code=ExitCode.NOT_READY,
    )
