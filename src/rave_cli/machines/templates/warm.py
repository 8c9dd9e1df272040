"""Starts a machine from a template: its devices are loaded, its memory is mapped, not read.

What runs in the guest then stands still, until it has been told which machine it is
(selfhood.py). Only after that is the machine handed over: whatever fails before ends it, and it can
be booted instead, for its disk has not been written.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli import paths, process, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import boot, identity, lifecycle, preflight, runs, saved, store
from rave_cli.machines.guest.readiness import WARM, Readiness
from rave_cli.machines.logfiles import last_lines
from rave_cli.machines.qemu import accelerator, caps, credentials, memory, ports
from rave_cli.machines.qemu.argv import memory_file, qemu_argv
from rave_cli.machines.qemu.program import QEMU
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.spec import TemplateOrigin
from rave_cli.machines.templates import kept, selfhood
from rave_cli.machines.templates.key import differences, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.qemu.accelerator import Accelerator
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.machines.templates.kept import MachineTemplate

# Seconds for QEMU's monitor, and for a QEMU to have one.
ANSWERS = 10.0
STARTS = 10.0
LOOK = 0.003


@dataclass(frozen=True)
class Restored:
    """A machine that goes on from a template as itself, `seconds` after its QEMU was started."""

    boot: boot.Boot
    seconds: float
    behind: float


def create(spec: MachineSpec, template: MachineTemplate) -> Machine:
    """Make a machine of a template; it can be started from that, once, or booted.

    Raises:
        RaveError: as making a machine does; HOST if the template was changed.
    """
    kept.refuse_changed(template)
    record = template.record.files[kept.DISK]
    origin = TemplateOrigin(template.record.digest, (record.size, record.changed))
    return store.create(replace(spec, template=origin), template.disk)


def start(
    machine: Machine,
    template: MachineTemplate,
    *,
    on_stage: Callable[[Reached], None],
    wait: bool = True,
) -> Ready:
    """Start a machine that was just made of a template from that, and wait until it is ready.

    Args:
        machine: the machine; it has never been started.
        template: what it was made of.
        on_stage: called for each stage as it is reached.
        wait: else it is enough that it is itself and runs programs, before its services come up.

    Raises:
        RaveError: NOT_READY if its guest does not take what makes it itself, or a service does not
            answer; HOST if the host lacks something, or the template does not fit what is there
            now. The machine is stopped then, and can be booted.
    """
    found = accelerator.detect()
    readiness = Readiness(
        machine.name,
        machine.spec.instance_id,
        scale=lifecycle.patience(found, machine.spec.cpus),
        on_stage=on_stage,
        stages=WARM,
    )
    cap = caps.choose(machine.spec, found.kind)
    try:
        with store.locked(machine.name):
            restored = restore(machine, template, found, cap, readiness, runs_next=not wait)
        forwards = boot.watch(restored.boot, readiness) if wait else _ports(restored.boot)
    except BaseException as error:
        with signals.held():
            lifecycle.kill(machine)
            machine.restoring.unlink(missing_ok=True)
        if isinstance(error, RaveError):
            error.detail += (f"to boot it instead: rave vm start {machine.name}",)
        raise
    return lifecycle.ready(
        machine, restored.boot.pid, forwards, readiness, found=found, cap=cap, origin="template"
    )


def restore(
    machine: Machine,
    template: MachineTemplate,
    found: Accelerator,
    cap: caps.Cap,
    readiness: Readiness,
    *,
    runs_next: bool = False,
) -> Restored:
    """Start a QEMU on a template's memory and make its guest this machine. The caller holds the
    machine's lock, and ends what this leaves running when it fails; `runs_next` says that it runs
    a program in it at once.

    Raises:
        RaveError: as `start`.
    """
    process.require(QEMU)
    preflight.check(machine)
    refuse_misfit(machine, template, found)
    store.keep_image(machine)
    paths.private_dir(paths.runtime_dir())
    paths.private_dir(machine.runtime)
    words = memory_file(machine.spec, template.memory, shared=False)
    argv = (*cap.prefix, *qemu_argv(machine, found), *words, *saved.INCOMING)
    with paths.refusing(machine.restoring):
        machine.restoring.write_text(template.record.digest)
    with credentials.written(machine):
        begun = boot.spawn(machine, argv, cap.beside)
        # While QEMU starts.
        certificate = identity.new_certificate(machine.spec.public_host)
        with _monitor(begun) as monitor:
            readiness.reach("qemu", begun.now())
            _load(monitor, template)
            monitor.execute("cont", timeout=ANSWERS)
    told = selfhood.become(machine, template.record.instance, certificate, runs=runs_next)
    machine.restoring.unlink()
    behind = told.get("behind")
    since = float(behind) if isinstance(behind, int | float) else 0.0
    seconds = begun.now()
    readiness.reach("itself", seconds, f"its template was {_age(since)} old")
    runs.note(machine, begun.pid)
    events = Qmp.connect(machine.event_socket, timeout=ANSWERS)
    return Restored(replace(begun, monitor=events), seconds, since)


def refuse_misfit(machine: Machine, template: MachineTemplate, found: Accelerator) -> None:
    """Refuse a template that was changed, or that a machine cannot be started from here and now.

    Raises:
        RaveError: HOST that names what differs.
    """
    kept.refuse_changed(template)
    wrong = differences(key_of(machine.spec, found), template.record.key)
    origin = machine.spec.template
    if origin is None or origin.digest != template.record.digest:
        wrong = [*wrong, "the machine was made from something else"]
    if wrong:
        raise RaveError(
            f"machine {machine.name} cannot be started from template {template.name}:"
            f" {'; '.join(wrong)}",
            hint=f"rave vm start {machine.name} boots it",
            exit_code=ExitCode.HOST,
        )


def _ports(begun: boot.Boot) -> dict[int, int]:
    if begun.monitor is not None:
        begun.monitor.close()
    return ports.asked(begun.machine)


def _monitor(begun: boot.Boot) -> Qmp:
    until = time.monotonic() + STARTS
    while True:
        try:
            return Qmp.connect(begun.machine.qmp_socket, timeout=ANSWERS)
        except QmpError as error:
            if begun.returncode() is not None or time.monotonic() > until:
                error.detail = last_lines(begun.machine.qemu_log, 6)
                raise
            time.sleep(LOOK)


def _load(monitor: Qmp, template: MachineTemplate) -> None:
    version = memory.version(monitor)
    if version != template.record.qemu:
        raise QmpError(f"QEMU is {version}; the template was made with {template.record.qemu}")
    memory.leave_shared(monitor)
    with paths.refusing(template.state):
        fd = os.open(template.state, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        memory.load(monitor, fd)
        memory.leave_shared(monitor, leave=False)
    finally:
        with suppress(OSError):
            os.close(fd)


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.0f} h"
