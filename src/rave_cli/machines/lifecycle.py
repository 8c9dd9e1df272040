"""Start, stop, look at and delete machines. What a machine is doing is read from the world: its
QEMU process, QEMU's monitor and what the guest reported; never from a stored flag.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import accelerator, boot, caps, credentials, preflight, store, world
from rave_cli.machines.argv import QEMU, qemu_argv
from rave_cli.machines.qmp import Qmp, QmpError, parse_usernet
from rave_cli.machines.readiness import Readiness
from rave_cli.machines.spec import SSH_PORT, machines_dir
from rave_cli.machines.stages import read_events
from rave_cli.machines.stop import stop, stop_process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.machines.accelerator import Accelerator
    from rave_cli.machines.readiness import Reached
    from rave_cli.machines.spec import Machine
    from rave_cli.machines.stages import StageEvent

State = Literal["stopped", "starting", "running", "paused", "failed", "unresponsive"]

# States of QEMU (RunState of its QMP reference) in which it only waits for somebody to go on.
RESUMABLE = ("paused", "io-error")

# Seconds in which a healthy QEMU answers on its monitor.
MONITOR_ANSWERS = 2.0


@dataclass(frozen=True)
class Ready:
    """A machine that became ready. Times in seconds: of stages since QEMU was started, of services
    on the guest's clock since its kernel began. `ports` maps guest ports to ports of 127.0.0.1;
    `joined` says that another command had started it.
    """

    machine: Machine
    pid: int
    ports: dict[int, int]
    stages: tuple[Reached, ...]
    services: dict[str, float]
    secrets: str
    accelerator: Accelerator
    joined: bool
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Seconds from QEMU's start until every service was healthy and the login worked."""
        return self.stages[-1].seconds

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        return {
            "name": self.machine.name,
            "state": "running",
            "pid": self.pid,
            "ports": {str(guest): host for guest, host in sorted(self.ports.items())},
            "seconds": round(self.seconds, 3),
            "stages": [
                {"name": s.name, "seconds": round(s.seconds, 3), "detail": s.detail}
                for s in self.stages
            ],
            "services": self.services,
            "secrets": self.secrets,
            "accelerator": self.accelerator.document,
            "joined": self.joined,
            "notes": list(self.notes),
        }


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


def command(machine: Machine, found: Accelerator) -> tuple[str, ...]:
    """Return the exact command that `start` would run now."""
    return (*caps.choose(machine.spec, found.kind).prefix, *qemu_argv(machine, found))


def start(
    machine: Machine,
    *,
    on_stage: Callable[[Reached], None],
    deadline_scale: float | None = None,
    keep_running: bool = False,
) -> Ready:
    """Start a machine and wait until it is ready; join the wait if it is starting already.

    Args:
        machine: the machine.
        on_stage: called for each stage as it is reached.
        deadline_scale: factor on every deadline; None takes what `patience` says.
        keep_running: leave QEMU running if the machine does not become ready, to look into it.

    Raises:
        RaveError: NOT_READY naming the stage at which it stopped; HOST if the host lacks something.
            Unless `keep_running`, a QEMU that this call started does not outlive a failure, and
            neither an interruption.
    """
    found = accelerator.detect()
    readiness = Readiness(
        machine.name,
        machine.spec.instance_id,
        scale=patience(found, machine.spec.cpus) if deadline_scale is None else deadline_scale,
        on_stage=on_stage,
    )
    cap: caps.Cap | None = None
    try:
        with store.locked(machine.name):
            watched = _join(machine)
            if watched is None:
                cap = caps.choose(machine.spec, found.kind)
                watched = _launch(machine, found, cap, readiness)
        forwards = boot.watch(watched, readiness)
    except BaseException:
        if cap is not None and not keep_running:
            kill(machine)
        raise
    report = readiness.services
    return Ready(
        machine=machine,
        pid=watched.pid,
        ports=forwards,
        stages=tuple(readiness.reached),
        services=report.service_uptimes if report else {},
        secrets=_secrets(read_events(machine.stage_file)) or "unknown",
        accelerator=found,
        joined=cap is None,
        notes=(cap.note,) if cap is not None and cap.note else (),
    )


def patience(found: Accelerator, cpus: int) -> float:
    """Return the factor on the deadlines of a boot, which were measured with two CPUs on an idle
    host: how slow the accelerator was, how many CPUs the guest has, how busy the host is now.
    """
    pressure = os.getloadavg()[0] / (os.cpu_count() or 1)
    return found.deadline_scale * max(1.0, 2 / cpus) * min(max(pressure, 1.0), 3.0)


def _join(machine: Machine) -> boot.Boot | None:
    """Return the boot of a QEMU that another command started, if one runs; resume a paused one."""
    running = world.find(machine.spec.uuid)
    if running is None:
        return None
    # A QEMU that does not answer yet may still be starting; whoever watches it finds out.
    with suppress(QmpError), Qmp.connect(machine.qmp_socket, timeout=MONITOR_ANSWERS) as monitor:
        if monitor.execute("query-status", timeout=MONITOR_ANSWERS).get("status") in RESUMABLE:
            monitor.execute("cont", timeout=MONITOR_ANSWERS)
    credentials.forget(machine)
    return boot.Boot(machine, running.pid, running.started)


def _launch(machine: Machine, found: Accelerator, cap: caps.Cap, readiness: Readiness) -> boot.Boot:
    """Start QEMU if the host has what it needs."""
    process.require(QEMU)
    preflight.check(machine, found.kind)
    store.keep_image(machine)
    return boot.launch(machine, (*cap.prefix, *qemu_argv(machine, found)), readiness)


def kill(machine: Machine) -> None:
    """End a machine's QEMU at once, without asking the guest."""
    stop(machine, patience=0.0)


def ports(machine: Machine) -> dict[int, int]:
    """Return guest port -> port of 127.0.0.1 of a running machine.

    Raises:
        RaveError: NOT_READY if it does not run or QEMU does not answer.
    """
    if world.find(machine.spec.uuid) is None:
        raise RaveError(
            f"machine {machine.name} is not running",
            hint=f"rave vm start {machine.name}",
            exit_code=ExitCode.NOT_READY,
        )
    try:
        return boot.ports(machine)
    except QmpError as error:
        raise RaveError(
            f"machine {machine.name} does not answer: {error.message}",
            hint=f"rave vm status {machine.name}; rave vm stop {machine.name}",
            exit_code=ExitCode.NOT_READY,
        ) from error


def ssh_port(machine: Machine) -> int:
    """Return the port of 127.0.0.1 that leads to a running machine's sshd.

    Raises:
        RaveError: NOT_READY if it does not run, does not answer or forwards no such port.
    """
    forwards = ports(machine)
    if SSH_PORT not in forwards:
        raise RaveError(
            f"machine {machine.name} forwards no port to its SSH server",
            hint=f"rave vm delete {machine.name} --force, then launch it anew",
            exit_code=ExitCode.NOT_READY,
        )
    return forwards[SSH_PORT]


def status(machine: Machine) -> Status:
    """Return what a machine is doing now."""
    running = world.find(machine.spec.uuid)
    if running is None:
        return Status(machine, "stopped")
    reports = read_events(machine.stage_file)
    state, detail, forwards = _asked(machine, reports)
    return Status(
        machine=machine,
        state=state,
        detail=detail,
        pid=running.pid,
        uptime=time.monotonic() - running.started,
        resident_mib=running.resident_mib,
        ports=forwards,
        stage=reports[-1].stage if reports else None,
        secrets=_secrets(reports),
    )


def _secrets(reports: Sequence[StageEvent]) -> str | None:
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
            forwards = parse_usernet(monitor.human("info usernet", timeout=MONITOR_ANSWERS))
    except QmpError as error:
        return "unresponsive", error.message, None
    if not answer.get("running", False):
        why = str(answer.get("status", ""))
        if why in RESUMABLE:
            why += f"; go on: rave vm start {machine.name}"
        return "paused", why, forwards
    return (*judge(reports), forwards)


def judge(reports: Sequence[StageEvent]) -> tuple[State, str]:
    """Return the state of a machine whose QEMU runs, from what its guest has reported."""
    for report in reports:
        if report.stage == "failed":
            return "failed", report.reason
        if report.stage == "services":
            broken = report.failed_services
            return ("failed", f"failed: {', '.join(broken)}") if broken else ("running", "")
    return "starting", ""


def delete(name: str, *, force: bool = False) -> None:
    """Delete a machine with its disk, keys and logs.

    Args:
        name: its name; with `force` even one whose record is damaged.
        force: end it first if it runs, without asking the guest.

    Raises:
        RaveError: USAGE if there is none, or it runs and `force` is not given; HOST if its record
            is damaged and `force` is not given.
    """
    with store.locked(name):
        running = _find_to_delete(name, force=force)
        if running is not None and not force:
            raise RaveError(
                f"machine {name} is running",
                hint=f"rave vm stop {name}; or rave vm delete {name} --force",
                exit_code=ExitCode.USAGE,
            )
        if running is not None:
            stop_process(running, paths.runtime_dir() / name / "qmp.sock", patience=0.0)
        store.remove(name)


def _find_to_delete(name: str, *, force: bool) -> world.Process | None:
    try:
        return world.find(store.load(name).spec.uuid)
    except RaveError as error:
        if not force or error.exit_code == ExitCode.USAGE:
            raise
        return world.find_by_directory(machines_dir() / name)
