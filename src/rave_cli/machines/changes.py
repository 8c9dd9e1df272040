"""What can be changed about a machine that exists: its protection, its name, its size."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import identity, store
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.qmp import check_socket_path
from rave_cli.machines.spec import check_name, locate, machines_dir

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


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
        check_socket_path(locate(replace(machine.spec, name=new)).event_socket)
        return _move(machine, new)


def require_stopped(machine: Machine, what: str) -> None:
    """Refuse what cannot be done to a running machine; `what` says what it would be.

    Raises:
        RaveError: USAGE if it runs.
    """
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
    return moved
