"""Which ports of this host lead into a running machine, as its QEMU says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.qmp import Qmp, QmpError, parse_usernet
from rave_cli.machines.spec import SSH_PORT

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


def of(machine: Machine) -> dict[int, int]:
    """Return guest port -> port of 127.0.0.1 of a running machine.

    Raises:
        RaveError: NOT_READY if it does not run or QEMU does not answer.
    """
    if processes.find(machine.spec.uuid) is None:
        raise RaveError(
            f"machine {machine.name} is not running",
            hint=f"rave vm start {machine.name}",
            exit_code=ExitCode.NOT_READY,
        )
    try:
        return asked(machine)
    except QmpError as error:
        raise RaveError(
            f"machine {machine.name} does not answer: {error.message}",
            hint=f"rave vm status {machine.name}; rave vm stop {machine.name}",
            exit_code=ExitCode.NOT_READY,
        ) from error


def ssh(machine: Machine) -> int:
    """Return the port of 127.0.0.1 that leads to a running machine's sshd.

    Raises:
        RaveError: NOT_READY if it does not run, does not answer or forwards no such port.
    """
    forwards = of(machine)
    if SSH_PORT not in forwards:
        raise RaveError(
            f"machine {machine.name} forwards no port to its SSH server",
            hint=f"rave vm delete {machine.name} --force, then launch it anew",
            exit_code=ExitCode.NOT_READY,
        )
    return forwards[SSH_PORT]


def asked(machine: Machine, *, timeout: float = 5.0) -> dict[int, int]:
    """Return guest port -> host port of a running machine, as QEMU itself says.

    Raises:
        RaveError: NOT_READY if its monitor does not answer.
    """
    with Qmp.connect(machine.qmp_socket, timeout=timeout) as monitor:
        return parse_usernet(monitor.human("info usernet", timeout=timeout))
