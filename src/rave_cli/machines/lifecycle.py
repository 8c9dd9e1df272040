"""Start, stop and delete machines."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli import process, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import boot, causes, disks, evidence, preflight, public, runs, status, store
from rave_cli.machines.guest.readiness import NAMES, Readiness
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.qemu import accelerator, caps, credentials, forwarding, processes
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.qemu.program import QEMU
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.qemu.stop import HARD, PATIENCE, StopReport, stop_process
from rave_cli.machines.spec import SSH_PORT, machines_dir
from rave_cli.machines.status import MONITOR_ANSWERS, RESUMABLE, reported_secrets
from rave_cli.records import DamagedRecordError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.qemu.accelerator import Accelerator
    from rave_cli.machines.qemu.stop import Rung
    from rave_cli.machines.spec import Machine


# Seconds for a guest to take an order over SSH.
GUEST_ANSWERS = 20.0


@dataclass(frozen=True)
class Ready:
    """A machine that became ready, or is itself at least if nobody wanted to wait for more.

    Times in seconds: of stages since QEMU was started, of services on the guest's clock since its
    kernel began. `ports` maps guest ports to ports of 127.0.0.1, of which `status_port` leads to
    the status page; `joined` says that another command had started it, `origin` how its guest
    began: `cold`, or from a `template`.
    """

    machine: Machine
    pid: int
    ports: dict[int, int]
    status_port: int | None
    stages: tuple[Reached, ...]
    services: dict[str, float]
    secrets: str
    accelerator: Accelerator
    joined: bool
    notes: tuple[str, ...]
    origin: str = "cold"

    @property
    def seconds(self) -> float:
        """Seconds from QEMU's start until every service was healthy and the login worked."""
        return self.stages[-1].seconds

    @property
    def whole(self) -> bool:
        """Whether every stage was seen, the last of which is the login."""
        return self.stages[-1].name == NAMES[-1]

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
            "origin": self.origin,
            "publicOrigin": self.machine.spec.public_origin,
            "notes": list(self.notes),
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
    fresh_system: bool = False,
) -> Ready:
    """Start a machine and wait until it is ready; join the wait if it is starting already.

    Args:
        machine: the machine.
        on_stage: called for each stage as it is reached.
        deadline_scale: factor on every deadline; None takes what `patience` says.
        keep_running: leave QEMU running if the machine does not become ready, to look into it.
        fresh_system: give up what its system's disk has beside the image before; its data stay.

    Raises:
        RaveError: NOT_READY naming the stage at which it stopped; HOST if the host lacks something;
            USAGE if the system is to be fresh, and it runs, is suspended, or has no data disk.
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
    origin = "cold"
    try:
        with store.locked(machine.name):
            # It may have been renamed, changed or deleted since the caller looked.
            machine = store.load(machine.name)
            if fresh_system:
                _renew_system(machine)
            watched = _join(machine)
            if watched is not None:
                origin = _take_part(machine, watched, readiness)
            else:
                machine = _settled(machine)
                cap = caps.choose(machine.spec, found.kind)
                watched = _launch(machine, found, cap, readiness, stays=keep_running)
        forwards = boot.watch(watched, readiness)
        if cap is None:
            credentials.forget(machine)
    except BaseException:
        if cap is not None and not keep_running:
            with signals.held():
                kill(machine)
        raise
    return ready(machine, watched.pid, forwards, readiness, found=found, cap=cap, origin=origin)


def ready(
    machine: Machine,
    pid: int,
    forwards: dict[int, int],
    readiness: Readiness,
    *,
    found: Accelerator,
    cap: caps.Cap | None,
    origin: str = "cold",
) -> Ready:
    """Return what is to be said of a machine that has become ready; `cap` is None if another
    command started it.
    """
    report = readiness.services
    return Ready(
        machine=machine,
        pid=pid,
        ports=forwards,
        status_port=forwards.get(_status_page(machine)),
        stages=tuple(readiness.reached),
        services=report.service_uptimes if report else {},
        secrets=reported_secrets(read_events(machine.stage_file)) or "unknown",
        accelerator=found,
        joined=cap is None,
        notes=(*_notes(machine, cap), *forwarding.restore(machine)),
        origin=origin,
    )


def _notes(machine: Machine, cap: caps.Cap | None) -> tuple[str, ...]:
    """Return what is worth knowing of a machine that is ready: secrets that it could not put in
    force, no cap around it.
    """
    seen = evidence.of(machine, ended=False, stays=True)
    told = [f"{cause.why}; {cause.hint}" for cause in causes.of(seen)]
    return (*told, *([cap.note] if cap is not None and cap.note else []))


def _status_page(machine: Machine) -> int:
    """Return the guest's port of the status page, 0 if there is none.

    A machine of rave 0.1.0 carries no plan; besides SSH its plan exposed nothing else.
    """
    with suppress(RaveError):
        own = store.plan(machine)
        if own is not None:
            return own.status_port or 0
    return max((f.guest for f in machine.spec.forwards if f.guest != SSH_PORT), default=0)


def patience(found: Accelerator, cpus: int) -> float:
    """Return the factor on the deadlines of a boot, which were measured with two CPUs on an idle
    host: how slow the accelerator was, how many CPUs the guest has, how busy the host is now.
    """
    return found.deadline_scale * max(1.0, 2 / cpus) * pressure()


def pressure() -> float:
    """Return how busy the host is: from 1, where a processor is free, to 3."""
    return min(max(os.getloadavg()[0] / (os.cpu_count() or 1), 1.0), 3.0)


def _renew_system(machine: Machine) -> None:
    if machine.suspended.is_dir():
        raise _suspended(machine)
    if processes.find(machine) is not None:
        raise RaveError(
            f"machine {machine.name} is running on the system that is to be given up",
            hint=f"rave vm stop {machine.name}",
            exit_code=ExitCode.USAGE,
        )
    preflight.check(machine)
    disks.renew_system(machine)


def _settled(machine: Machine) -> Machine:
    """Return a machine with the port that it keeps for its pages; if another program has taken
    that, another one, unless it was asked for.
    """
    settled = replace(machine, spec=public.settle(machine.spec, _status_page(machine)))
    if settled != machine and not machine.suspended.is_dir():
        store.save(settled)
    return settled


def _join(machine: Machine) -> boot.Boot | None:
    """Return the boot of a QEMU that another command started, if one runs; resume a paused one."""
    running = processes.find(machine)
    if running is None:
        return None
    machine = processes.placed(machine)
    if machine.restoring.exists():
        # A command was killed while it started this from a template: nothing runs in it yet, and
        # nobody will tell it who it is.
        stop_process(running, machine.qmp_socket, patience=0.0)
        return None
    if _lost(machine, running):
        raise RaveError(
            f"machine {machine.name} runs, but {machine.runtime} is gone, and with it QEMU's"
            " monitor and what the guest reports",
            hint=f"rave vm stop {machine.name} shuts it down in order; then start it again",
            exit_code=ExitCode.NOT_READY,
        )
    if machine.suspended.is_dir():
        raise _suspended(machine)
    monitor = _resume(machine)
    return boot.Boot(machine, running.pid, running.started, monitor, stays=True)


def _take_part(machine: Machine, watched: boot.Boot, readiness: Readiness) -> str:
    """Have a start watched that another command began; returns how its guest began."""
    readiness.join()
    running = processes.find(machine)
    origin = status.began(running) if running is not None else "cold"
    if origin == "template":
        # What its guest was booted through is the template's, and nothing is reported of it.
        readiness.reach("systemd", watched.now())
    return origin


def _resume(machine: Machine) -> Qmp | None:
    """Let a paused machine go on; return a monitor that hears what becomes of that.

    A QEMU that does not answer yet may still be starting, and has yet to read what a command that
    was killed has left for it; whoever watches it finds out.
    """
    with suppress(QmpError), Qmp.connect(machine.qmp_socket, timeout=MONITOR_ANSWERS) as monitor:
        found = monitor.execute("query-status", timeout=MONITOR_ANSWERS)
        credentials.forget(machine)
        if found.get("status") in RESUMABLE:
            # Nobody waits for a machine that is paused, so nobody else listens.
            events = Qmp.connect(machine.event_socket, timeout=MONITOR_ANSWERS)
            monitor.execute("cont", timeout=MONITOR_ANSWERS)
            return events
    return None


def _suspended(machine: Machine) -> RaveError:
    return RaveError(
        f"machine {machine.name} is suspended: its memory waits for it to go on",
        hint=f"rave vm resume {machine.name}",
        exit_code=ExitCode.USAGE,
    )


def _lost(machine: Machine, running: processes.Process) -> bool:
    """Return whether a running machine's sockets and reports were removed."""
    starting = time.monotonic() - running.started < status.QEMU_STARTS
    return not (starting or machine.qmp_socket.exists())


def _launch(
    machine: Machine,
    found: Accelerator,
    cap: caps.Cap,
    readiness: Readiness,
    *,
    stays: bool,
) -> boot.Boot:
    """Start QEMU if the host has what it needs."""
    process.require(QEMU)
    if machine.suspended.is_dir():
        raise _suspended(machine)
    original = processes.find_original(machine)
    if original is not None and original.directory is not None:
        raise RaveError(
            f"machine {machine.name} is a copy of the one in {original.directory}, which runs; the"
            " two would share its identity",
            hint=f"XDG_DATA_HOME={original.directory.parents[2]} rave vm stop {machine.name}",
            exit_code=ExitCode.HOST,
        )
    preflight.check(machine)
    machine.restoring.unlink(missing_ok=True)
    store.keep_image(machine)
    argv = (*cap.prefix, *qemu_argv(machine, found))
    launched = boot.launch(machine, argv, readiness, cap.beside, stays=stays)
    runs.note(machine, launched.pid)
    return launched


def stop(
    machine: Machine,
    *,
    patience: float | None = None,
    on_rung: Callable[[Rung], None] = lambda _rung: None,
) -> StopReport:
    """Stop a machine; one that does not run is stopped already.

    Args:
        machine: the machine.
        patience: seconds for the guest's own shutdown; 0 does not even ask it; None is PATIENCE,
            and more on a busy host.
        on_rung: called when a rung of the ladder is tried.

    Raises:
        RaveError: HOST if even SIGKILL does not end QEMU.
    """
    running = processes.find(machine)
    machine = processes.placed(machine)
    credentials.forget(machine)
    if running is None:
        return StopReport("not-running", 0.0)
    if patience is None:
        patience = PATIENCE * pressure()
    report = stop_process(
        running,
        machine.qmp_socket,
        patience=patience if _listens(machine) else 0.0,
        on_rung=on_rung,
        power_off=lambda: _power_off(machine),
        button=not _gave_up(machine),
    )
    if report.rung not in HARD:
        runs.forget(machine)
    return report


def _listens(machine: Machine) -> bool:
    """Return whether the guest may hear the power button. Before systemd runs in it nobody does,
    and nothing can be lost; where its reports are gone, that cannot be told.
    """
    if not machine.stage_file.exists():
        return True
    return any(event.stage != "failed" for event in read_events(machine.stage_file))


def _gave_up(machine: Machine) -> bool:
    """Return whether the guest is in emergency mode, in which nothing waits for the power button
    and sshd may run.
    """
    if not machine.stage_file.exists():
        return False
    return any(event.stage == "failed" for event in read_events(machine.stage_file)[-1:])


def _power_off(machine: Machine) -> bool:
    """Tell the guest over SSH to shut down; returns whether it took the order."""
    from rave_cli.machines.guest.ssh import connect

    try:
        with connect(machine, timeout=GUEST_ANSWERS) as session:
            order = ("systemctl", "poweroff", "--no-block")
            return session.run(order, sudo=True, timeout=GUEST_ANSWERS).ok
    except RaveError:
        return False


def kill(machine: Machine) -> None:
    """End a machine's QEMU at once, without asking the guest."""
    stop(machine, patience=0.0)


def delete(name: str, *, force: bool = False) -> None:
    """Delete a machine with its disk, keys and logs.

    Args:
        name: its name; with `force` even one whose record is damaged, but none of a newer rave.
        force: end it first if it runs, without asking the guest.

    Raises:
        RaveError: USAGE if there is none, it is protected, or it runs and `force` is not given;
            HOST if its record is damaged and `force` is not given, or is of a newer rave.
    """
    with store.locked(name):
        running, runtime = _find_to_delete(name, force=force)
        if running is not None and not force:
            raise RaveError(
                f"machine {name} is running",
                hint=f"rave vm stop {name}; or rave vm delete {name} --force",
                exit_code=ExitCode.USAGE,
            )
        if not force and (machines_dir() / name / "suspended").is_dir():
            raise RaveError(
                f"machine {name} is suspended: what it had in memory would be lost with its disk",
                hint=f"rave vm resume {name}; or rave vm delete {name} --force",
                exit_code=ExitCode.USAGE,
            )
        if running is not None:
            stop_process(running, (runtime or machines_dir()) / "qmp.sock", patience=0.0)
        store.remove(name, runtime)


def _find_to_delete(name: str, *, force: bool) -> tuple[processes.Process | None, Path | None]:
    """Return the process of a machine, and its runtime directory as far as that is known."""
    try:
        machine = store.load(name)
    except DamagedRecordError:
        if not force:
            raise
        running = processes.find_by_directory(machines_dir() / name)
        return running, running.runtime if running is not None else None
    if machine.spec.protected:
        raise RaveError(
            f"machine {name} is protected from deletion",
            hint=f"rave vm unprotect {name}",
            exit_code=ExitCode.USAGE,
        )
    return processes.find(machine), machine.runtime
