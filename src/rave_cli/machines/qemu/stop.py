"""The ladder down: ACPI power button (or the guest's own command, where QEMU cannot be asked), QMP
quit, SIGTERM, SIGKILL, each rung with its deadline.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.qmp import IO_ERROR, STILL, Qmp, QmpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Rung = Literal["not-running", "acpi", "ssh", "quit", "sigterm", "sigkill"]

# The rungs on which the guest did not shut down by itself.
HARD = ("quit", "sigterm", "sigkill")

# Seconds for the guest to shut down in order after its power button was pressed.
PATIENCE = 30.0

# Seconds for QEMU to take the power button: on a busy host, or while its monitor serves another
# command, it takes its time, and without it the guest loses what it has not written.
BUTTON_TAKEN = 10.0

# Seconds between two looks at whether QEMU still runs the guest that shuts down.
LOOK = 2.0

# Seconds for QEMU to end once it is told to, and to take that order.
QEMU_ENDS = 3.0
QUIT_TAKEN = 1.0


@dataclass(frozen=True)
class StopReport:
    """How a machine was stopped: the rung that worked and the seconds until QEMU was gone.

    `hard` says that the guest should have shut down and did not: what it had not written is lost.
    `still` is the state (RunState of QEMU's QMP reference) in which QEMU did not run the guest that
    should shut down; empty if it ran it.
    """

    rung: Rung
    seconds: float
    hard: bool = False
    still: str = ""

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        return {"rung": self.rung, "seconds": round(self.seconds, 3)}


def stop_process(
    running: processes.Process,
    monitor: Path,
    *,
    patience: float,
    on_rung: Callable[[Rung], None] = lambda _rung: None,
    power_off: Callable[[], bool] = lambda: False,
    button: bool = True,
) -> StopReport:
    """Stop a QEMU process, rung by rung.

    Args:
        running: the process.
        monitor: its socket for commands.
        patience: seconds for the guest's own shutdown; 0 does not even ask it.
        on_rung: called when a rung is tried.
        power_off: tells the guest itself to shut down, if QEMU does not; returns whether the guest
            took it.
        button: whether anybody in the guest hears the power button; if not, it is told first.

    Raises:
        RaveError: HOST if even SIGKILL does not end it.
    """
    began = time.monotonic()
    with processes.held(running) as pidfd:
        rungs = _rungs(pidfd, monitor, patience, on_rung, power_off, button=button)
        for rung, seconds, still in rungs:
            if pidfd is None or processes.ended(pidfd, seconds):
                with suppress(ChildProcessError):
                    os.waitpid(running.pid, os.WNOHANG)
                hard = patience > 0 and rung in HARD
                return StopReport(rung, time.monotonic() - began, hard, still)
    raise RaveError(
        f"QEMU (pid {running.pid}) does not end, not even by SIGKILL",
        hint=f"cat /proc/{running.pid}/stack   (a process in state D waits for the kernel)",
        exit_code=ExitCode.HOST,
    )


def _rungs(
    pidfd: int | None,
    monitor: Path,
    patience: float,
    on_rung: Callable[[Rung], None],
    power_off: Callable[[], bool],
    *,
    button: bool,
) -> Iterator[tuple[Rung, float, str]]:
    """Try one rung after the other; yields each with the seconds it gets to work, and the state in
    which QEMU was seen not to run its guest.
    """
    if pidfd is None:
        yield "not-running", 0.0, ""
        return
    # Somebody may have stopped it, as a host that sleeps does: then it hears nothing.
    processes.send(pidfd, signal.SIGCONT)
    still = ""
    if patience > 0:
        if _state(monitor) == IO_ERROR:
            # It may be possible to write by now: then nothing is lost.
            _takes(monitor, "cont", QUIT_TAKEN)
        if not button and _told(on_rung, power_off):
            yield "ssh", patience, ""
        elif _takes(monitor, "system_powerdown", min(patience, BUTTON_TAKEN)):
            on_rung("acpi")
            for seconds in _looks(patience):
                yield "acpi", seconds, ""
                if (found := _state(monitor)) in STILL:
                    still = found
                    break
                # Who was not up yet, or went on only now, may have missed it. A guest that shuts
                # down takes no notice.
                _takes(monitor, "system_powerdown", QUIT_TAKEN)
        elif button and _told(on_rung, power_off):
            yield "ssh", patience, ""
    if _takes(monitor, "quit", QUIT_TAKEN):
        on_rung("quit")
        yield "quit", QEMU_ENDS, still
    on_rung("sigterm")
    processes.send(pidfd, signal.SIGTERM)
    yield "sigterm", QEMU_ENDS, still
    on_rung("sigkill")
    processes.send(pidfd, signal.SIGKILL)
    yield "sigkill", QEMU_ENDS, still


def _told(on_rung: Callable[[Rung], None], power_off: Callable[[], bool]) -> bool:
    on_rung("ssh")
    return power_off()


def _looks(patience: float) -> Iterator[float]:
    """Cut patience into pieces of LOOK."""
    whole, rest = divmod(patience, LOOK)
    yield from (LOOK for _ in range(int(whole)))
    yield rest


def _state(monitor: Path) -> str:
    """Return QEMU's state; nothing if it does not answer soon."""
    with suppress(QmpError), Qmp.connect(monitor, timeout=QUIT_TAKEN) as client:
        return str(client.execute("query-status", timeout=QUIT_TAKEN).get("status"))
    return ""


def _takes(monitor: Path, order: str, seconds: float) -> bool:
    """Give QEMU an order; whether it took it, which one that hangs up over it did. What it has not
    answered it drops with the connection.
    """
    try:
        client = Qmp.connect(monitor, timeout=seconds)
    except QmpError:
        return False
    with client:
        try:
            client.execute(order, timeout=seconds)
        except QmpError:
            return client.closed
        return True
