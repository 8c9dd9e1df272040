"""Where QEMU writes what it and its guest have to say: into named pipes that a keeper empties.

QEMU's own `file` backend has no bound: a guest wrote 153 MB in 20 s through its stage port. Why a
program of ours: docs/adr/0016-bounded-logs.md.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.machines.logfiles import dropped_file, older
from rave_cli.machines.qemu import logkeeper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.machines.spec import Machine

# Bytes that a log may have; as much again is kept of what came before.
MOST_CONSOLE = 8 << 20
MOST_STAGES = 1 << 19
MOST_QEMU = 1 << 20

# Seconds that a keeper gets to write down the last words of a QEMU that has ended; a busy host may
# need some to start it at all.
SETTLES = 15.0


def start(machine: Machine, prefix: Sequence[str], *, go_on: bool = False) -> int:
    """Start the keeper of a machine's logs and return the descriptor for QEMU's own output.

    Args:
        machine: the machine.
        prefix: what goes before the keeper's argv, so that it outlives us as QEMU does.
        go_on: add to the logs of the last run, which is being resumed, instead of removing them.

    Raises:
        RaveError: HOST if a pipe or a log cannot be made.
    """
    kept = (
        (machine.console_pipe, machine.console_log, MOST_CONSOLE),
        (machine.stage_pipe, machine.stage_file, MOST_STAGES),
        (machine.qemu_pipe, machine.qemu_log, MOST_QEMU),
    )
    for pipe, log, _ in kept:
        for old in () if go_on else (log, older(log), dropped_file(log)):
            with paths.refusing(old):
                old.unlink(missing_ok=True)
        _make_pipe(pipe)
    _make_pipe(machine.console_keys)
    with ExitStack() as stack:
        words: list[str] = []
        readers = []
        for pipe, log, most in kept:
            # The keeper is born with its ends: a QEMU that has died before it wakes is still heard.
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            stack.callback(os.close, reader)
            readers.append(reader)
            words += [f"/proc/self/fd/{reader}", str(log), str(most)]
        nowhere = stack.enter_context(Path(os.devnull).open("wb"))
        argv = (*prefix, sys.executable, "-ISE", logkeeper.__file__, *words)
        process.detach(argv, output=nowhere.fileno(), pass_fds=readers)
    with paths.refusing(machine.qemu_pipe):
        # Opened for reading as well, so that nobody has to wait for the keeper.
        return os.open(machine.qemu_pipe, os.O_RDWR | os.O_CLOEXEC)


def _make_pipe(place: Path) -> None:
    with paths.refusing(place):
        place.unlink(missing_ok=True)
        os.mkfifo(place, 0o600)


def settle(machine: Machine) -> None:
    """Wait until the logs of a QEMU that has ended are whole."""
    deadline = time.monotonic() + SETTLES
    while time.monotonic() < deadline:
        try:
            # Nobody reads it: ENXIO, fifo(7).
            os.close(os.open(machine.qemu_pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return
        time.sleep(0.01)
