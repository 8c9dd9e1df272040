"""Starts a machine from a template: its devices are loaded, its memory is mapped, not read.

What runs in the guest then stands still, until it has been told which machine it is
(selfhood.py). Only after that is the machine handed over: whatever fails before ends it, and it can
be booted instead, for its disk has not been written.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli import paths, process, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import boot, certificate, labels, lifecycle, preflight, runs, saved, store
from rave_cli.machines.disks import Disks
from rave_cli.machines.guest import command
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
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.qemu.accelerator import Accelerator
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.machines.templates.kept import MachineTemplate

# Seconds for QEMU's monitor, and for a QEMU to have one.
ANSWERS = 10.0
STARTS = 10.0
LOOK = 0.003

# As a job is run (pool/agents/handover.py), and nothing comes of it.
REHEARSAL = ("env", "--", "true")


@dataclass(frozen=True)
class PutBy:
    """A machine that was started from a template, became itself, and is paused: but for what runs
    commands nothing in it has gone on. It costs the memory that it has written by then.
    """

    machine: Machine
    template: MachineTemplate
    boot: boot.Boot
    readiness: Readiness


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
    whose = None if template.data is None else labels.of(template.data)
    of_it = replace(spec, template=origin, data_of=whose)
    return store.create(of_it, Disks(template.disk, template.data))


def start(
    machine: Machine,
    template: MachineTemplate,
    *,
    on_stage: Callable[[Reached], None],
    wait: bool = True,
    before: Callable[[Machine], None] | None = None,
    on_login: boot.OnLogin = boot.let_go,
) -> Ready:
    """Start a machine that was just made of a template from that, and wait until it is ready.

    Args:
        machine: the machine; it has never been started.
        template: what it was made of.
        on_stage: called for each stage as it is reached.
        wait: else it is enough that it is itself and runs programs, before its services come up.
        before: called when that is so; they come up when it lets them, or has run nothing for a
            while (selfhood.lull).
        on_login: gets the login that ends the start.

    Raises:
        RaveError: NOT_READY if its guest does not take what makes it itself, or a service does not
            answer; HOST if the host lacks something, or the template does not fit what is there
            now. The machine is stopped then, and can be booted.
    """
    found = accelerator.detect()
    readiness = _readiness(machine, found, on_stage)
    cap = caps.choose(machine.spec, found.kind)
    with _ending(machine):
        with store.locked(machine.name):
            runs_next = before is not None or not wait
            restored = restore(machine, template, found, cap, readiness, runs_next=runs_next)
        if before is not None:
            _do(before, restored.boot)
        forwards = boot.watch(restored.boot, readiness, on_login) if wait else _ports(restored.boot)
    return lifecycle.ready(
        machine, restored.boot.pid, forwards, readiness, found=found, cap=cap, origin="template"
    )


def put_by(
    machine: Machine, template: MachineTemplate, *, on_stage: Callable[[Reached], None]
) -> PutBy:
    """Start a machine that was just made of a template from that, as itself, and pause it.

    What an emulated guest has not run yet, its QEMU has yet to translate, which takes longer than
    to run it: so a program is run, and what wakes it up is tried.

    Raises:
        RaveError: as `start`.
    """
    found = accelerator.detect()
    readiness = _readiness(machine, found, on_stage)
    cap = caps.choose(machine.spec, found.kind)
    with _ending(machine), store.locked(machine.name):
        waiting = PutBy(
            machine, template, _loaded(machine, template, found, cap, readiness), readiness
        )
        _cont(waiting.boot)
        shown = certificate.of(machine)
        selfhood.become(machine, template.record.instance, shown, stays=True)
        selfhood.wake(machine, stays=True)
        _rehearse(machine)
        with _monitor(waiting.boot) as monitor:
            monitor.execute("stop", timeout=ANSWERS)
    return waiting


def go_on(waiting: PutBy) -> None:
    """Let a machine that was put by go on; programs are going to be run in it at once.

    Raises:
        RaveError: as `start`. The machine is stopped then.
    """
    with _ending(waiting.machine), store.locked(waiting.machine.name):
        _cont(waiting.boot)
        told = selfhood.wake(waiting.machine, lull=selfhood.lull())
        restored = _itself(waiting, told, "it stood by, and was")
        _ports(restored.boot)


def _rehearse(machine: Machine) -> None:
    """Run a program that does nothing.

    Raises:
        RaveError: NOT_READY if it does not run.
    """
    with command.connect(machine) as channel:
        if channel is None or channel.run(REHEARSAL, timeout=ANSWERS).returncode != 0:
            raise RaveError(
                f"machine {machine.name} was started from a template and runs no program",
                hint=f"rave vm logs {machine.name}",
                exit_code=ExitCode.NOT_READY,
            )


def _readiness(
    machine: Machine, found: Accelerator, on_stage: Callable[[Reached], None]
) -> Readiness:
    return Readiness(
        machine.name,
        machine.spec.instance_id,
        scale=lifecycle.patience(found, machine.spec.cpus),
        on_stage=on_stage,
        stages=WARM,
    )


@contextmanager
def _ending(machine: Machine) -> Iterator[None]:
    """End what runs of a machine whose start fails."""
    try:
        yield
    except BaseException as error:
        with signals.held():
            lifecycle.kill(machine)
            machine.restoring.unlink(missing_ok=True)
        if isinstance(error, RaveError):
            error.detail += (f"to boot it instead: rave vm start {machine.name}",)
        raise


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
    begun = _loaded(machine, template, found, cap, readiness)
    return _gone_on(PutBy(machine, template, begun, readiness), runs_next=runs_next)


def _loaded(
    machine: Machine,
    template: MachineTemplate,
    found: Accelerator,
    cap: caps.Cap,
    readiness: Readiness,
) -> boot.Boot:
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
        with _monitor(begun) as monitor:
            readiness.reach("qemu", begun.now())
            _load(monitor, template)
    return begun


def _gone_on(waiting: PutBy, *, runs_next: bool) -> Restored:
    machine, template = waiting.machine, waiting.template
    _cont(waiting.boot)
    shown = certificate.of(machine)
    lull = selfhood.lull() if runs_next else None
    return _itself(waiting, selfhood.become(machine, template.record.instance, shown, lull=lull))


def _cont(begun: boot.Boot) -> None:
    with _monitor(begun) as monitor:
        monitor.execute("cont", timeout=ANSWERS)


def _itself(waiting: PutBy, told: Mapping[str, object], what: str = "its template was") -> Restored:
    """Note that a machine is itself, and runs; its guest has `told` how old `what` it was is."""
    machine, begun = waiting.machine, waiting.boot
    machine.restoring.unlink()
    behind = told.get("behind")
    since = float(behind) if isinstance(behind, int | float) else 0.0
    seconds = begun.now()
    waiting.readiness.reach("itself", seconds, f"{what} {_age(since)} old")
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


def _do(before: Callable[[Machine], None], begun: boot.Boot) -> None:
    """Do what comes before the rest of a start; if that fails, nobody hears QEMU's events."""
    try:
        before(begun.machine)
    except BaseException:
        if begun.monitor is not None:
            begun.monitor.close()
        raise


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
