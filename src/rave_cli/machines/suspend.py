"""Suspend a machine to disk, and resume it where it was: its memory beside its disk meanwhile."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli import paths, process, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import boot, preflight, public, saved, store
from rave_cli.machines.guest import command
from rave_cli.machines.guest.door import Door, VerbRefusedError
from rave_cli.machines.logfiles import last_lines
from rave_cli.machines.qemu import (
    accelerator,
    caps,
    credentials,
    forwarding,
    memory,
    ports,
    processes,
)
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.qemu.program import QEMU
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.qemu.stop import stop_process
from rave_cli.machines.saved import SavedState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine

# Seconds for QEMU's monitor to answer, for a started QEMU to have one, and for the guest.
MONITOR_ANSWERS = 5.0
QEMU_STARTS = 10.0
GUEST_ANSWERS = 20.0

# MiB of room that a saved memory needs beyond what QEMU holds.
MARGIN = 64


@dataclass(frozen=True)
class Suspended:
    """What suspending took: seconds, and MiB of disk."""

    seconds: float
    mib: int


@dataclass(frozen=True)
class Resumed:
    """A machine that goes on: its pid, its ports of now (guest to host), the seconds until it went
    on, whether its guest has answered since, and what is worth a warning.
    """

    pid: int
    ports: dict[int, int]
    seconds: float
    answered: bool
    notes: tuple[str, ...] = ()


def suspend(machine: Machine) -> Suspended:
    """Save the memory of a running machine beside its disk and end its QEMU.

    Raises:
        RaveError: NOT_READY if it does not run or QEMU cannot; HOST if there is no room, or another
            rave started it. The machine then goes on running.
    """
    began = time.monotonic()
    with store.locked(machine.name):
        running = processes.find(machine)
        if running is None:
            raise ports.not_running(machine)
        machine = processes.placed(machine)
        refuse_full_disk(machine, running.resident_mib)
        with _monitor_of(machine) as monitor:
            monitor.execute("stop", timeout=MONITOR_ANSWERS)
            try:
                state = _save(machine, monitor, running, saved.draft(machine) / saved.MEMORY)
                with signals.held():
                    saved.keep(machine, state)
            except BaseException:
                with signals.held():
                    _go_on(machine, monitor)
                raise
        stop_process(running, machine.qmp_socket, patience=0.0)
    return Suspended(time.monotonic() - began, saved.memory_size(machine) >> 20)


@contextmanager
def standing_still(
    machine: Machine, running: processes.Process, place: Path
) -> Iterator[SavedState]:
    """Save the memory of a running machine to a new file, and yield what belongs to it while the
    machine stands still; it goes on afterwards.

    Raises:
        RaveError: as `suspend`.
    """
    with _monitor_of(machine) as monitor:
        monitor.execute("stop", timeout=MONITOR_ANSWERS)
        try:
            yield _save(machine, monitor, running, place)
        finally:
            with signals.held():
                monitor.execute("cont", timeout=MONITOR_ANSWERS)


def refuse_full_disk(machine: Machine, needed: int) -> None:
    """Refuse what takes `needed` MiB beside a machine's disk if there is no room for it.

    Raises:
        RaveError: HOST.
    """
    with paths.refusing(machine.directory):
        found = os.statvfs(machine.directory)
    free = found.f_bavail * found.f_frsize >> 20
    if free < needed + MARGIN:
        raise RaveError(
            f"to save machine {machine.name} takes up to {needed + MARGIN} MiB of disk and there"
            f" are {free} MiB",
            hint=f"df -h {machine.directory}",
            exit_code=ExitCode.HOST,
        )


def _monitor_of(machine: Machine) -> Qmp:
    return Qmp.connect(machine.qmp_socket, timeout=MONITOR_ANSWERS)


def _save(machine: Machine, monitor: Qmp, running: processes.Process, place: Path) -> SavedState:
    """Write the memory of a paused guest to a new file; returns what belongs to it.

    Raises:
        RaveError: HOST if the guest was started by another rave, so that nothing could read it, or
            the file cannot be written; NOT_READY if QEMU cannot.
    """
    if machine.restoring.exists():
        raise RaveError(
            f"machine {machine.name} is being started from a template; nothing runs in it yet",
            hint=f"rave vm start {machine.name}",
            exit_code=ExitCode.NOT_READY,
        )
    found = replace(accelerator.detect(), kind=running.accelerator)
    shape = saved.shape(running.argv, machine)
    if shape != saved.shape(qemu_argv(machine, found), machine):
        raise RaveError(
            f"machine {machine.name} was started by another version of rave, which cannot be taken"
            " up again",
            hint=f"rave vm stop {machine.name}; rave vm start {machine.name}",
            exit_code=ExitCode.HOST,
        )
    with paths.refusing(place):
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            memory.save(monitor, fd)
            os.fsync(fd)
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
    state = SavedState(
        qemu=memory.version(monitor),
        accelerator=running.accelerator,
        cpu=saved.processor(running.accelerator),
        command=shape,
        disk=(0, 0),
        size=size,
        since=time.time(),
    )
    return saved.with_disks(machine, state)


def resume(machine: Machine) -> Resumed:
    """Let a suspended machine go on where it was; one that is only paused goes on, too.

    Raises:
        RaveError: USAGE if it is not suspended; HOST if its memory does not fit what is there now,
            and as a start does; NOT_READY if QEMU cannot read it. It stays suspended then.
    """
    began = time.monotonic()
    with store.locked(machine.name):
        running = processes.find(machine)
        if running is not None and _take_up(processes.placed(machine), running):
            machine, pid = processes.placed(machine), running.pid
        else:
            pid = _bring_back(machine)
    seconds = time.monotonic() - began
    return Resumed(pid, ports.of(machine), seconds, _wake(machine), forwarding.restore(machine))


def give_up(machine: Machine) -> None:
    """Give the saved memory of a machine up: what its programs had not written is lost.

    Raises:
        RaveError: USAGE if it runs.
    """
    with store.locked(machine.name):
        if processes.find(machine) is not None:
            raise RaveError(
                f"machine {machine.name} is running",
                hint=f"rave vm status {machine.name}",
                exit_code=ExitCode.USAGE,
            )
        saved.put_aside(machine)


def _take_up(machine: Machine, running: processes.Process) -> bool:
    """Let a QEMU that is there go on; returns whether it does.

    One that stands still while there is a saved memory is of a `suspend` or `resume` that was
    killed. The memory is whole and the disk has not changed since, or it would be put aside; what
    that QEMU holds may be anything, so it is ended.
    """
    try:
        with _monitor_of(machine) as monitor:
            status = monitor.execute("query-status", timeout=MONITOR_ANSWERS)
            if status.get("running") or not machine.suspended.is_dir():
                _go_on(machine, monitor)
                return True
    except QmpError:
        if not machine.suspended.is_dir():
            raise
    stop_process(running, machine.qmp_socket, patience=0.0)
    return False


def _bring_back(machine: Machine) -> int:
    """Start a QEMU that reads the saved memory; returns its pid."""
    state = saved.read(machine)
    if state is None:
        raise RaveError(
            f"machine {machine.name} is not suspended",
            hint=f"rave vm start {machine.name}",
            exit_code=ExitCode.USAGE,
        )
    process.require(QEMU)
    found = accelerator.detect()
    preflight.check(machine)
    argv = qemu_argv(machine, found)
    now = replace(
        state,
        accelerator=found.kind,
        cpu=saved.processor(found.kind),
        command=saved.shape(argv, machine),
        size=saved.memory_size(machine),
    )
    saved.refuse_misfit(machine, state, saved.with_disks(machine, now))
    cap = caps.choose(machine.spec, found.kind)
    argv = qemu_argv(replace(machine, spec=public.for_now(machine.spec)), found)
    paths.private_dir(paths.runtime_dir())
    paths.private_dir(machine.runtime)
    with credentials.written(machine):
        begun = boot.spawn(machine, (*cap.prefix, *argv, *saved.INCOMING), cap.beside, go_on=True)
        try:
            with _monitor(begun) as monitor:
                saved.refuse_misfit(machine, state, replace(state, qemu=memory.version(monitor)))
                _load(machine, monitor)
                _go_on(machine, monitor)
        except BaseException:
            with signals.held():
                _end(machine)
            raise
    return begun.pid


def _monitor(begun: boot.Boot) -> Qmp:
    until = time.monotonic() + QEMU_STARTS
    while True:
        try:
            return Qmp.connect(begun.machine.qmp_socket, timeout=MONITOR_ANSWERS)
        except QmpError as error:
            if begun.returncode() is not None or time.monotonic() > until:
                error.detail = last_lines(begun.machine.qemu_log, 6)
                raise
            time.sleep(0.005)


def _load(machine: Machine, monitor: Qmp) -> None:
    place = machine.suspended / saved.MEMORY
    with paths.refusing(place):
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        memory.load(monitor, fd)
    except QmpError as error:
        raise saved.misfit(machine, error.message) from error
    finally:
        os.close(fd)


def _go_on(machine: Machine, monitor: Qmp) -> None:
    """Let the guest run; from then on its saved memory is of the past."""
    with signals.held():
        saved.put_aside(machine)
        monitor.execute("cont", timeout=MONITOR_ANSWERS)


def _end(machine: Machine) -> None:
    running = processes.find(machine)
    if running is not None:
        stop_process(running, machine.qmp_socket, patience=0.0)


def _wake(machine: Machine) -> bool:
    """Give the guest randomness and time of the host's; returns whether it answered.

    More than one machine may be taken up from one memory. A guest without the command channel sees
    by its real-time clock within seconds that time has passed.
    """
    with command.connect(machine, timeout=GUEST_ANSWERS) as channel:
        if channel is None:
            return False
        try:
            given = {"entropy": b64encode(os.urandom(64)).decode(), "now": time.time()}
            Door.of(machine, channel).call("resumed", given, timeout=GUEST_ANSWERS)
        except VerbRefusedError:
            return True
        except RaveError:
            return False
        return True
