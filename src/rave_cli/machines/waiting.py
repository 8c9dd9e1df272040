"""Waits until a machine has reached a stage or is in a state, whoever brings it there."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import causes, evidence, status, store
from rave_cli.machines.guest.readiness import CORE
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.logfiles import last_lines
from rave_cli.machines.qemu import processes
from rave_cli.machines.states import DELETED, SECRETS, STATES
from rave_cli.machines.watching import GLANCE, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.machines.spec import Machine
    from rave_cli.machines.watching import MachineChange

# Seconds between two tries to log in, and for one of them.
LOGIN_AGAIN = 1.0
LOGIN = 20.0


class WaitTimeoutError(RaveError):
    """What was waited for did not happen in time."""

    reason = "wait-timeout"


def wait(name: str, target: str, *, timeout: float) -> None:
    """Wait until a machine is in a state or has reached a stage; at once if it has.

    Args:
        name: the machine.
        target: one of TARGETS.
        timeout: seconds.

    Raises:
        WaitTimeoutError: NOT_READY, with what was seen last, if time runs out.
        RaveError: USAGE if there is no such machine; NOT_READY if it is deleted meanwhile.
    """
    deadline = time.monotonic() + timeout
    if target != DELETED:
        store.load(name)
    last: MachineChange | None = None
    with Watcher((name,)) as watcher:
        while True:
            for change in watcher.look():
                last = change
            state = last.state if last is not None else DELETED
            left = deadline - time.monotonic()
            if _reached(name, target, state, left):
                return
            if state == DELETED:
                raise RaveError(
                    f"machine {name} was deleted while {target} was waited for",
                    hint="rave vm list",
                    exit_code=ExitCode.NOT_READY,
                )
            if left <= 0:
                raise _late(name, target, timeout, last)
            pause = LOGIN_AGAIN if target in LOGINS else GLANCE
            watcher.sleep(min(pause, left))


def _reached(name: str, target: str, state: str, left: float) -> bool:
    """Return whether a machine, whose state is known, is where it is waited for."""
    if target in (*STATES, DELETED):
        return state == target
    if state not in STATES or state == "stopped":
        return False
    return REACHED[target](store.load(name), state, left)


def _lets_in(machine: Machine, state: str, left: float) -> bool:
    """Return whether the guest's sshd shows the pinned host key and takes the login key; nobody
    tries before the services are up, for a login costs a guest under TCG a second of its CPU.
    """
    if state != "running":
        return False
    # Only now: paramiko takes long to import.
    from rave_cli.machines.guest.ssh import connect

    with suppress(RaveError), connect(machine, timeout=min(LOGIN, max(left, 0.1))):
        return True
    return False


# How each stage is seen from outside, of a machine that runs: its state, and seconds to find out.
REACHED: dict[str, Callable[[Machine, str, float], bool]] = {
    "qemu": lambda _machine, state, _left: state != "unresponsive",
    "kernel": lambda machine, _state, _left: bool(
        last_lines(machine.console_log, 1) or read_events(machine.stage_file)
    ),
    "systemd": lambda machine, _state, _left: bool(read_events(machine.stage_file)),
    CORE: lambda machine, state, _left: (
        state == "running" or any(e.stage == CORE for e in read_events(machine.stage_file))
    ),
    "services": lambda _machine, state, _left: state == "running",
    "ssh-banner": _lets_in,
    "ssh-auth": _lets_in,
    SECRETS: lambda machine, _state, _left: (
        status.reported_secrets(read_events(machine.stage_file)) == "installed"
    ),
}
LOGINS = ("ssh-banner", "ssh-auth")


def _late(name: str, target: str, timeout: float, last: MachineChange | None) -> WaitTimeoutError:
    seen = "nothing was seen of it"
    if last is not None:
        seen = f"it is {last.state}" + (f" ({last.detail})" if last.detail else "")
        seen += f", its guest reported {last.stage} last" if last.stage else ""
    seen_last: tuple[str, ...] = ()
    with suppress(RaveError):
        machine = store.load(name)
        ended = processes.find(machine) is None
        found = evidence.of(machine, ended=ended, stays=not ended)
        seen_last = causes.words(found, causes.of(found))
    return WaitTimeoutError(
        f"machine {name} did not come to {target} within {timeout:g} s: {seen}",
        hint=f"rave vm status {name}; rave vm logs {name}",
        exit_code=ExitCode.NOT_READY,
        detail=seen_last,
    )
