"""The state of a running guest, memory and devices, into a file and back into another QEMU.

It travels as QEMU's own migration stream, through a descriptor that we open: QEMU's sandbox lets it
start no program (`exec:`), and QEMU 7.2 knows no `file:`. Source: QEMU's docs/devel/migration.rst.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any

from rave_cli.machines.qemu.qmp import QmpError

if TYPE_CHECKING:
    from rave_cli.machines.qemu.qmp import Qmp

# Seconds for one answer of the monitor, which is busy with memory meanwhile; for all of a
# migration, as long as it goes on; and between two looks at it.
ANSWERS = 10.0
PATIENCE = 120.0
LOOK = 0.005

# Bytes: with less free, a file that could not be written is one for which there was no room.
FULL = 256 << 10

# Bytes per second; QEMU's own limit of 128 MiB/s is meant for networks.
BANDWIDTH = 1 << 40


def version(monitor: Qmp) -> str:
    """Return the version of QEMU that answers, with its package: what can read its own streams.

    Raises:
        QmpError: NOT_READY if it does not answer.
    """
    found = monitor.execute("query-version", timeout=ANSWERS)
    numbers = found["qemu"]
    return f"{numbers['major']}.{numbers['minor']}.{numbers['micro']} {found['package']}".strip()


def leave_shared(monitor: Qmp, *, leave: bool = True) -> None:
    """Let states be without the memory that lies in a file (for a template, and to start from one),
    or whole again: a machine that was started from a template is suspended with all its memory.

    Raises:
        QmpError: NOT_READY if this QEMU cannot.
    """
    wanted = {"capability": "x-ignore-shared", "state": leave}
    monitor.execute("migrate-set-capabilities", timeout=ANSWERS, capabilities=[wanted])


def save(monitor: Qmp, fd: int) -> None:
    """Write the state of a paused guest to an open file. The guest stays paused.

    Raises:
        QmpError: NOT_READY if QEMU cannot, or takes longer than `PATIENCE`; the guest can go on.
        OSError: ENOSPC if there is no more room where the file is, which QEMU does not say.
    """
    monitor.execute("migrate-set-parameters", timeout=ANSWERS, **{"max-bandwidth": BANDWIDTH})
    monitor.hand_over(fd, "state", timeout=ANSWERS)
    monitor.execute("migrate", timeout=ANSWERS, uri="fd:state")
    try:
        _finish(monitor)
    except BaseException as error:
        monitor.execute("migrate_cancel", timeout=ANSWERS)
        if isinstance(error, QmpError) and _full(fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _full(fd: int) -> bool:
    found = os.fstatvfs(fd)
    return found.f_bavail * found.f_frsize < FULL


def load(monitor: Qmp, fd: int) -> None:
    """Read a state into a QEMU that was started with `-incoming defer`. The guest stays paused.

    Raises:
        QmpError: NOT_READY if the stream does not fit, or is cut short.
    """
    monitor.hand_over(fd, "state", timeout=ANSWERS)
    monitor.execute("migrate-incoming", timeout=ANSWERS, uri="fd:state")
    _finish(monitor)


def _finish(monitor: Qmp) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found: dict[str, Any] = monitor.execute("query-migrate", timeout=ANSWERS)
        if found.get("status") == "completed":
            return
        if found.get("status") in ("failed", "cancelled"):
            raise QmpError(f"QEMU cannot: {found.get('error-desc', found['status'])}")
        time.sleep(LOOK)
    raise QmpError(f"QEMU takes longer than {PATIENCE:g} s")
