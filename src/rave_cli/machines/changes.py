"""What can be changed about a machine that exists: its protection, its name, its size."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli import paths, process, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import disks, generations, identity, store, underway
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import ports, processes
from rave_cli.machines.qemu.argv import DATA_NODE, DISK_NODE
from rave_cli.machines.qemu.qmp import Qmp, check_socket_path
from rave_cli.machines.spec import check_name, check_sizes, locate, machines_dir

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

# Seconds in which QEMU answers.
QEMU_ANSWERS = 10.0

# Seconds for a guest to let us in, and to grow its file system.
GUEST_ANSWERS = 20.0
GUEST_GROWS = 120.0

# The guest's unit that grows its file system to the disk; at a boot its initrd does it.
GROWS = "rave-grow.service"


def protect(name: str, *, protected: bool) -> Machine:
    """Protect a machine from deletion, or lift that, and return it.

    Raises:
        RaveError: USAGE if there is none; HOST if its record cannot be read or written.
    """
    with store.locked(name):
        found = store.load(name)
        changed = replace(found, spec=replace(found.spec, protected=protected))
        if changed != found:
            store.save(changed)
        return changed


def rename(old: str, new: str) -> Machine:
    """Give a stopped machine another name; its disk, keys and logs go with it.

    Raises:
        RaveError: USAGE if there is none, it runs, or the new name is bad or taken; HOST if the new
            name makes the path of a socket too long, or a file cannot be written.
    """
    store.load(old)
    if check_name(new) in stored_names():
        raise RaveError(
            f"machine {new} exists already" if new != old else f"the machine is called {new}",
            hint="rave vm list   (names in use)",
            exit_code=ExitCode.USAGE,
        )
    with store.locked(old), store.locked(new):
        machine = store.load(old)
        if new in stored_names():
            raise store.taken(new)
        require_stopped(machine, "renamed")
        underway.refuse(machine)
        check_socket_path(locate(replace(machine.spec, name=new)).event_socket)
        return _move(machine, new)


@dataclass(frozen=True)
class Resized:
    """A machine that was given other sizes; `grown` says whether its guest's file system has taken
    the larger disk already, None if the disk is as it was.
    """

    machine: Machine
    grown: bool | None


def resize(
    name: str,
    *,
    memory_mib: int | None = None,
    cpus: int | None = None,
    disk_gib: int | None = None,
) -> Resized:
    """Give a machine other sizes; None leaves one as it is.

    The disk of a running machine grows as well, and its file system with it where the guest can be
    reached and knows how; else that grows at the next start. Memory and CPUs are those of a start.

    Args:
        name: the machine.
        memory_mib: memory in MiB.
        cpus: number of CPUs.
        disk_gib: size of the disk in GiB; it never shrinks.

    Raises:
        RaveError: USAGE if there is none, a size is bad, or it runs and memory or CPUs are to
            change; HOST if the disk cannot be grown or the record not be written; NOT_READY if
            QEMU does not answer.
    """
    with store.locked(name):
        machine = store.load(name)
        require_not_suspended(machine)
        underway.refuse(machine)
        old = machine.spec
        spec = replace(
            old,
            memory_mib=old.memory_mib if memory_mib is None else memory_mib,
            cpus=old.cpus if cpus is None else cpus,
            disk_gib=old.disk_gib if disk_gib is None else disk_gib,
        )
        hint = f"rave vm status {name}   (what it has)"
        check_sizes(spec.memory_mib, spec.cpus, spec.disk_gib, hint=hint)
        if spec.disk_gib < old.disk_gib:
            raise RaveError(
                f"machine {name} has a disk of {old.disk_gib} GiB, and a disk never shrinks",
                hint=hint,
                exit_code=ExitCode.USAGE,
            )
        if (spec.memory_mib, spec.cpus) != (old.memory_mib, old.cpus):
            require_stopped(machine, "given other memory or CPUs")
        changed = replace(machine, spec=spec)
        running = processes.find(machine) is not None
        # The disk first: should this be killed in between, the same command once more completes it.
        if disk_gib is not None:
            (_grow_running if running else _grow)(changed)
        if changed != machine:
            store.save(changed)
    if disk_gib is None:
        return Resized(changed, None)
    return Resized(changed, running and _take_up(changed))


def _grow(machine: Machine) -> None:
    """Grow the disk of a stopped machine: that of its data, if it has one."""
    process.require("qemu-img")
    disks.grow_disk(machine.disks[-1], f"{machine.spec.disk_gib}G")


def _grow_running(machine: Machine) -> None:
    """Let QEMU grow the disk of a running machine (block_resize of its QMP reference)."""
    with Qmp.connect(machine.qmp_socket, timeout=QEMU_ANSWERS) as monitor:
        node = DATA_NODE if machine.spec.has_data else DISK_NODE
        size = machine.spec.disk_gib << 30
        monitor.execute("block_resize", timeout=QEMU_ANSWERS, **{"node-name": node, "size": size})


def _take_up(machine: Machine) -> bool:
    """Let the guest grow its file system to the disk; returns whether it did. One that cannot be
    asked, or does not know how, does so when it boots.
    """
    # Only here: paramiko takes long to import.
    from rave_cli.machines.guest.ssh import connect

    try:
        with connect(machine, timeout=GUEST_ANSWERS) as session:
            order = ("systemctl", "restart", GROWS)
            return session.run(order, sudo=True, timeout=GUEST_GROWS).ok
    except RaveError:
        return False


def require_not_suspended(machine: Machine) -> None:
    """Refuse what would part a saved memory from the machine that it belongs to.

    Raises:
        RaveError: NOT_READY if it is suspended.
    """
    if machine.suspended.is_dir():
        raise ports.not_running(machine)


def require_stopped(machine: Machine, what: str) -> None:
    """Refuse what cannot be done to a running machine; `what` says what it would be.

    Raises:
        RaveError: USAGE if it runs; NOT_READY if it is suspended.
    """
    require_not_suspended(machine)
    if processes.find(machine) is not None:
        raise RaveError(
            f"machine {machine.name} is running; only a stopped one can be {what}",
            hint=f"rave vm stop {machine.name}",
            exit_code=ExitCode.USAGE,
        )


def _move(machine: Machine, name: str) -> Machine:
    """Give a stopped machine another name, which is free, and return it. The caller holds the locks
    of both names.

    The rename of the directory is the one step that counts: before it, the record says what is
    about to happen and the host key is pinned under both names, so that whoever loads the machine
    finds all in order on either side of it.
    """
    coming = replace(machine, spec=replace(machine.spec, renamed_to=name))
    moved = locate(replace(machine.spec, name=name, renamed_to=None))
    with signals.held():
        store.save(coming)
        identity.pin(machine, machine.alias, moved.alias)
        with paths.refusing(moved.directory):
            # Nix knows its roots by their paths: without the link, the next start makes a new one.
            machine.image_root.unlink(missing_ok=True)
            machine.directory.rename(moved.directory)
            paths.sync_dir(machines_dir())
        shutil.rmtree(machine.runtime, ignore_errors=True)
        store.save(moved)
        identity.pin(moved, moved.alias)
    store.keep_image(moved)
    generations.keep_images(moved)
    return moved
