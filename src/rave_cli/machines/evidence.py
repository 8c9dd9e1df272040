"""Collects what a machine that does not come up, QEMU and the host show of it: the I/O around
causes.py.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.machines.causes import READ, Evidence
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.logfiles import last_lines
from rave_cli.machines.qemu.qmp import Qmp, QmpError

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

VMSTAT = Path("/proc/vmstat")

# Seconds in which QEMU tells its state; one that hangs must not hold up the news.
ANSWERS = 1.0


def of(
    machine: Machine,
    *,
    ended: bool,
    returncode: int | None = None,
    host_kills: int = 0,
    stays: bool = False,
    run_state: str | None = None,
    fault: str = "",
) -> Evidence:
    """Return what can be seen of a machine now; the arguments are what only the caller knows.

    Args:
        machine: the machine.
        ended: whether its QEMU has ended.
        returncode: how QEMU ended; None if nobody knows.
        host_kills: processes that the host's kernel killed for lack of memory meanwhile.
        stays: whether the machine goes on running.
        run_state: QEMU's state; asked for if QEMU runs and this is None.
        fault: what was seen to go wrong in this boot.
    """
    if run_state is None and not ended:
        run_state = _run_state(machine)
    return Evidence(
        spec=machine.spec,
        directory=os.fspath(machine.directory),
        reports=tuple(read_events(machine.stage_file)),
        console=last_lines(machine.console_log, READ),
        qemu=last_lines(machine.qemu_log, READ),
        run_state=run_state,
        ended=ended,
        returncode=returncode,
        host_kills=host_kills,
        host_free=_free(machine.directory),
        stays=stays,
        fault=fault,
    )


def host_kills() -> int:
    """Return how many processes the host's kernel has killed for lack of memory since it booted,
    a cgroup's cap included (oom_kill of proc(5)); 0 if it does not tell.
    """
    with suppress(OSError, ValueError):
        for line in VMSTAT.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


def _run_state(machine: Machine) -> str | None:
    with suppress(QmpError), Qmp.connect(machine.qmp_socket, timeout=ANSWERS) as monitor:
        return str(monitor.execute("query-status", timeout=ANSWERS).get("status"))
    return None


def _free(directory: Path) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(directory).free
    return None
