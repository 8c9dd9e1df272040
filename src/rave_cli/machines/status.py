"""What a machine is doing now, read from the world: its QEMU process, QEMU's monitor and what the
guest reported; never from a stored flag.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.qemu import processes, usernet
from rave_cli.machines.qemu.qmp import MonitorGoneError, Qmp, QmpError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.machines.guest.stages import StageEvent
    from rave_cli.machines.spec import Machine

State = Literal[
    "stopped", "suspended", "starting", "running", "stopping", "paused", "failed", "unresponsive"
]  # fmt: skip

# States of QEMU (RunState of its QMP reference) in which it only waits for somebody to go on.
RESUMABLE = ("paused", "postmigrate", "io-error")

# A machine whose sockets are gone, as with XDG_RUNTIME_DIR after the last logout, still runs.
LOST = "its guest can still be reached (rave vm ssh {name}) and shut down (rave vm stop {name})"

_GO_ON = "go on: rave vm resume {name}"

# Seconds in which a healthy QEMU answers on its monitor.
MONITOR_ANSWERS = 2.0


@dataclass(frozen=True)
class Status:
    """What a machine is doing now: `uptime` in seconds, `resident_mib` what QEMU really holds."""

    machine: Machine
    state: State
    detail: str = ""
    pid: int | None = None
    uptime: float | None = None
    resident_mib: int | None = None
    ports: dict[int, int] | None = None
    stage: str | None = None
    secrets: str | None = None

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        spec = self.machine.spec
        return {
            "name": spec.name,
            "state": self.state,
            "detail": self.detail,
            "profile": spec.profile,
            "base": spec.base,
            "mode": spec.mode,
            "memoryMiB": spec.memory_mib,
            "cpus": spec.cpus,
            "diskGiB": spec.disk_gib,
            "network": spec.network,
            "pid": self.pid,
            "uptime": None if self.uptime is None else round(self.uptime, 1),
            "residentMiB": self.resident_mib,
            "ports": {str(guest): host for guest, host in sorted((self.ports or {}).items())},
            "stage": self.stage,
            "secrets": self.secrets,
            "image": {"sha256": spec.image.sha256, "storePath": spec.image.store_path},
            "directory": str(self.machine.directory),
        }


def of(machine: Machine) -> Status:
    """Return what a machine is doing now."""
    running = processes.find(machine)
    if running is None and machine.suspended.is_dir():
        return Status(machine, "suspended", _GO_ON.format(name=machine.name))
    if running is None:
        return Status(machine, "stopped")
    reports = read_events(machine.stage_file)
    state, detail, forwards = _asked(machine, reports)
    if machine.suspended.is_dir() and state in ("paused", "unresponsive"):
        # A command was killed between the saved memory and the end, or beginning, of this QEMU.
        state, detail = "suspended", _GO_ON.format(name=machine.name)
    return Status(
        machine=machine,
        state=state,
        detail=detail,
        pid=running.pid,
        uptime=time.monotonic() - running.started,
        resident_mib=running.resident_mib,
        ports=forwards,
        stage=reports[-1].stage if reports else None,
        secrets=reported_secrets(reports),
    )


def reported_secrets(reports: Sequence[StageEvent]) -> str | None:
    """Return what the guest said last of its secrets."""
    said = [report.secrets for report in reports if report.stage in ("services", "secrets")]
    return said[-1] if said else None


def _asked(
    machine: Machine, reports: Sequence[StageEvent]
) -> tuple[State, str, dict[int, int] | None]:
    """Return state, its detail and the ports as QEMU's monitor and the guest tell them."""
    try:
        with Qmp.connect(machine.qmp_socket, timeout=MONITOR_ANSWERS) as monitor:
            answer = monitor.execute("query-status", timeout=MONITOR_ANSWERS)
            forwards = usernet.forwards(monitor, machine, timeout=MONITOR_ANSWERS)
    except MonitorGoneError as error:
        return "unresponsive", f"{error.message}; {LOST.format(name=machine.name)}", None
    except QmpError as error:
        return "unresponsive", error.message, None
    if not answer.get("running", False):
        why = str(answer.get("status", ""))
        if why in RESUMABLE:
            why += f"; go on: rave vm start {machine.name}"
        return "paused", why, forwards
    return (*judge(reports), forwards)


def judge(reports: Sequence[StageEvent]) -> tuple[State, str]:
    """Return the state of a machine whose QEMU runs, from what its guest reported in this boot."""
    state: tuple[State, str] = ("starting", "")
    for report in reports:
        if report.stage == "failed":
            state = ("failed", report.reason)
        if report.stage == "stopping":
            state = ("stopping", "the guest shuts down or starts anew")
        if report.stage == "services":
            broken = report.failed_services
            state = ("failed", f"failed: {', '.join(broken)}") if broken else ("running", "")
    return state
