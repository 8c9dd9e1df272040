"""The serial console of a running machine, attached to a terminal.

What the guest prints goes where it always goes, into the log, and is read from there; what is typed
goes into the pipe that QEMU reads. So any number may look on, and whoever stops reading holds up
neither the guest nor its log.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.logfiles import CHUNK, Tail
from rave_cli.machines.qemu import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.machines.spec import Machine
    from rave_cli.terminal import Terminal

# Seconds between two looks at the log: keys are echoed by the guest, and people see a tenth.
GLANCE = 0.02

# Bytes that are typed at once, and that may wait for a guest that reads none.
MOST_TYPED = 4096


def open_keys(machine: Machine) -> int:
    """Return the descriptor of the pipe that the machine's console takes its keys from.

    Raises:
        RaveError: NOT_READY if it does not run, or was started by a rave that gave it none.
    """
    if processes.find(machine) is None:
        raise RaveError(
            f"machine {machine.name} is not running",
            hint=f"rave vm start {machine.name}",
            exit_code=ExitCode.NOT_READY,
        )
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(machine.console_keys, flags)
    except OSError as error:
        raise RaveError(
            f"nothing reads keys for the console of machine {machine.name}: {error.strerror}",
            hint=f"a machine that an older rave started gets it with its next start: rave vm"
            f" restart {machine.name}",
            exit_code=ExitCode.NOT_READY,
        ) from error


def attach(
    machine: Machine, keys: int, terminal: Terminal, on_output: Callable[[bytes], None]
) -> None:
    """Pass keys on to the console of a machine, and what it prints from now on as it is, until the
    machine stops or the terminal is gone.

    Args:
        machine: the machine; it runs.
        keys: what open_keys returned.
        terminal: where keys are pressed.
        on_output: told what the guest prints, byte for byte.

    Raises:
        LeftError: whoever is at the terminal has pressed the way out.
        RaveError: HOST if the log cannot be read.
    """
    printed = Tail(machine.console_log)
    printed.skip()
    running = processes.find(machine)
    if running is None:
        return
    with processes.held(running) as pidfd:
        waiting, gone = b"", pidfd is None
        while not gone:
            while data := printed.read(CHUNK):
                on_output(data)
            gone = processes.ended(pidfd, 0) if pidfd is not None else True
            # One who types into a guest that reads nothing is not read on for ever, either.
            typed = [terminal.input] if len(waiting) < MOST_TYPED else []
            ready = select.select(typed, [keys] if waiting else [], [], GLANCE)
            if ready[0]:
                pressed = terminal.read(MOST_TYPED)
                gone |= not pressed
                waiting += pressed
            if ready[1]:
                waiting = waiting[_written(keys, waiting) :]
    while data := printed.read(CHUNK):
        on_output(data)


def _written(keys: int, data: bytes) -> int:
    """Write what the pipe takes; returns how much. One that nobody reads any more takes all."""
    try:
        return os.write(keys, data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)
