"""How a machine's last run came to its end, where no process is left to tell.

A record says which process it was and in which boot of this host. What a machine does now is never
read from it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.accelerator import BOOT_ID
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


@dataclass(frozen=True)
class LastRun:
    """A QEMU process that ran a machine: `ticks` is its start as processes.Process has it, `boot`
    the id of the host's boot.
    """

    pid: int
    ticks: int
    boot: str


RUN = RecordFormat(title="the record of a machine's last run", shape=LastRun, version=1)
NAME = "run.json"


def note(machine: Machine, pid: int) -> None:
    """Remember the process that was started for a machine; one that has ended already is not."""
    process = processes.with_pid(pid)
    if process is None:
        return
    run = LastRun(pid=pid, ticks=process.ticks, boot=host_boot())
    # Only what people are told hangs on it: a full disk stops no start.
    with suppress(RaveError):
        RUN.write(machine.directory / NAME, run, mode=0o600)


def forget(machine: Machine) -> None:
    """Have nothing to say of the last run: somebody saw it end in order."""
    with suppress(OSError):
        (machine.directory / NAME).unlink(missing_ok=True)


def end_of(machine: Machine, *, in_order: bool) -> str:
    """Return how the last run of a machine that does not run ended; "" if in order or never run.

    Args:
        machine: the machine.
        in_order: whether its guest said that it shuts down.
    """
    run = _last(machine)
    if run is None or in_order:
        return ""
    if run.boot != host_boot():
        return "the host was started anew while it ran; its guest did not shut down"
    said = f"QEMU (pid {run.pid}) ended and its guest had not said that it shuts down"
    now = processes.with_pid(run.pid)
    if now is not None and now.ticks != run.ticks:
        return f"{said}; another program has that pid now"
    return said


def host_boot() -> str:
    """Return the id of this host's boot (random(4))."""
    return BOOT_ID.read_text().strip()


def _last(machine: Machine) -> LastRun | None:
    place = machine.directory / NAME
    try:
        return RUN.read(place, hint="") if place.exists() else None
    except RaveError:
        return None
