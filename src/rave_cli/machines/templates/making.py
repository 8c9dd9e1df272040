"""Makes a template: a throwaway machine is booted, held, and put away with its memory.

It has an identity of its own, as every machine, which is thrown away with it, and no secrets: what
is put away belongs to nobody. Killed at any point, this leaves a draft, with a QEMU perhaps, which
the next command that makes, lists or prunes templates ends and removes.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli import paths, process, signals
from rave_cli.machines import boot, lifecycle, preflight, store
from rave_cli.machines.guest.readiness import NotReadyError, Readiness
from rave_cli.machines.qemu import accelerator, caps, memory, processes
from rave_cli.machines.qemu.argv import memory_file, qemu_argv
from rave_cli.machines.qemu.program import QEMU
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.machines.qemu.stop import stop_process
from rave_cli.machines.spec import SSH_PORT, Forward, Machine
from rave_cli.machines.templates import kept, selfhood
from rave_cli.machines.templates.key import NOBODY, TemplateKey, key_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.spec import MachineSpec

# Seconds for QEMU's monitor.
ANSWERS = 10.0

# Seconds that a guest gets between its boot's end and its standstill, for what it does after that:
# growing its file system, a first scrape of its metrics.
SETTLES = 3.0


@dataclass(frozen=True)
class Put:
    """What was put away of a guest: when it was ready, how many of its services were healthy, and
    by which QEMU.
    """

    boot_seconds: float
    services: int
    qemu: str


def make(spec: MachineSpec, *, on_stage: Callable[[Reached], None]) -> kept.MachineTemplate:
    """Make the template of machines like `spec`; one that is there already is replaced.

    Args:
        spec: a machine that is to be started from it.
        on_stage: called for each stage of its boot.

    Raises:
        RaveError: as starting a machine does; HOST if another command is making it, or there is no
            room; NOT_READY if its guest cannot be held. Nothing is left then.
    """
    found = accelerator.detect()
    key = key_of(spec, found)
    process.require(QEMU)
    process.require("qemu-img")
    paths.private_dir(kept.folder())
    with kept.locked(key.name):
        kept.sweep(key.name)
        own = replace(
            replace(spec, **NOBODY),
            uuid=str(uuid.uuid4()),
            instance_id=secrets.token_hex(16),
            forwards=(Forward(0, SSH_PORT),),
        )
        draft = kept.folder() / f".new-{key.name}.{secrets.token_hex(4)}"
        runtime = paths.runtime_dir() / f"template.{own.uuid[:8]}"
        machine = Machine(own, draft, runtime)
        try:
            paths.private_dir(draft)
            store.fill(machine)
            preflight.check(replace(machine, spec=spec))
            template = _keep(machine, key, _put_away(machine, found, on_stage))
        except BaseException as error:
            with signals.held():
                _end(machine)
                shutil.rmtree(draft, ignore_errors=True)
            if isinstance(error, NotReadyError):
                error.hint = (
                    f"rave vm launch-local --profile {spec.profile} --base {spec.base} boots one to"
                    " look into"
                )
            raise
        finally:
            shutil.rmtree(runtime, ignore_errors=True)
        return template


def _put_away(
    machine: Machine, found: accelerator.Accelerator, on_stage: Callable[[Reached], None]
) -> Put:
    """Boot a machine, hold it, and save the state of its devices beside its memory and disk."""
    place = machine.directory / kept.MEMORY
    with paths.refusing(place), place.open("xb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.truncate(machine.spec.memory_mib << 20)
    readiness = Readiness(
        machine.name,
        machine.spec.instance_id,
        scale=lifecycle.patience(found, machine.spec.cpus),
        on_stage=on_stage,
    )
    cap = caps.choose(machine.spec, found.kind)
    argv = (*cap.prefix, *qemu_argv(machine, found), *memory_file(machine.spec, place, shared=True))
    boot.watch(boot.launch(machine, argv, readiness, cap.beside), readiness)
    time.sleep(SETTLES)
    selfhood.hold(machine)
    with Qmp.connect(machine.qmp_socket, timeout=ANSWERS) as monitor:
        monitor.execute("stop", timeout=ANSWERS)
        memory.leave_shared(monitor)
        version = memory.version(monitor)
        _save(monitor, machine.directory / kept.STATE)
    _end(machine)
    services = readiness.services
    count = len(services.service_uptimes) if services else 0
    return Put(readiness.reached[-1].seconds, count, version)


def _save(monitor: Qmp, place: Path) -> None:
    with paths.refusing(place):
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            memory.save(monitor, fd)
            os.fsync(fd)
        finally:
            os.close(fd)


def _keep(machine: Machine, key: TemplateKey, put: Put) -> kept.MachineTemplate:
    """Reduce a draft to what a template is, and put it in force."""
    for entry in machine.directory.iterdir():
        if entry.name in kept.FILES:
            with paths.refusing(entry), entry.open("rb") as stream:
                os.fsync(stream.fileno())
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    record = kept.TemplateRecord(
        key=key,
        qemu=put.qemu,
        instance=machine.spec.instance_id,
        files={
            name: kept.file_of(machine.directory / name)
            for name in kept.FILES
            if name != kept.DATA or machine.spec.has_data
        },
        since=time.time(),
        boot_seconds=put.boot_seconds,
        services=put.services,
    )
    template = kept.keep(machine.directory, key.name, record)
    # Its disk is nothing without the image below.
    store.keep_image(replace(machine, directory=template.place))
    return template


def _end(machine: Machine) -> None:
    running = processes.find(machine)
    if running is not None:
        stop_process(running, machine.qmp_socket, patience=0.0)
