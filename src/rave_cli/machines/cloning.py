"""A clone: a machine of its own with copies of another's disks.

It gets what makes a machine itself as every new one does: keys, ids, name and network address. On
its disks are the original's data; the secrets on them open only with the original's identity, and
are removed by the guest when it first boots (rave_guest/secrets/store.py), which makes the data
disk its own.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import labels, preflight, snapshots, store, suspend, underway
from rave_cli.machines.disks import Disks
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from rave_cli.machines.spec import Forward, check_name

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine, MachineSpec


def clone(machine: Machine, name: str, *, snapshot: str | None = None) -> Machine:
    """Make a machine with copies of another's disks, and return it; it is stopped.

    Args:
        machine: the original.
        name: what the clone is called.
        snapshot: take the disks as they are in this snapshot of the original.

    Raises:
        RaveError: USAGE if the name is bad or taken, there is no such snapshot, or the original
            runs or is suspended and no snapshot is named; HOST if there is no room.
    """
    if check_name(name) in stored_names():
        raise store.taken(name)
    with store.locked(machine.name):
        machine = store.load(machine.name)
        underway.refuse(machine)
        disks = _disks_of(machine, snapshot)
        places = [place for place in (disks.system, disks.data) if place is not None]
        suspend.refuse_full_disk(machine, sum(place.stat().st_size for place in places) >> 20)
        whose = None if disks.data is None else labels.of(disks.data)
        return store.create(_another(machine.spec, name, whose), Disks.below(machine), disks)


def _disks_of(machine: Machine, snapshot: str | None) -> Disks:
    if snapshot is not None:
        found = snapshots.load(machine, snapshot)
        if found.record.image != machine.spec.image.sha256:
            raise RaveError(
                f"snapshot {snapshot} was taken of another image than machine {machine.name} has",
                hint=f"rave vm snapshot list {machine.name}",
                exit_code=ExitCode.HOST,
            )
        return snapshots.disks_in(machine, found.place)
    running = processes.find(machine) is not None
    if running or machine.suspended.is_dir():
        what = "is running" if running else "is suspended"
        raise RaveError(
            f"machine {machine.name} {what}: its disk alone is not how it is",
            hint=f"rave vm snapshot create {machine.name} NOW, and clone with --snapshot NOW; or"
            f" rave vm stop {machine.name}",
            exit_code=ExitCode.USAGE,
        )
    preflight.refuse_half_restored(machine)
    return Disks.of(machine)


def _another(spec: MachineSpec, name: str, whose: str | None) -> MachineSpec:
    """Return a specification like another's, of a machine of its own. Its host ports are any free
    ones: both may run. Its data disk says to be that of `whose`.
    """
    return replace(
        spec,
        name=name,
        uuid=str(uuid.uuid4()),
        instance_id=secrets.token_hex(16),
        forwards=tuple(Forward(0, forward.guest) for forward in spec.forwards),
        protected=False,
        renamed_to=None,
        pages=None,
        own_origin=None,
        data_of=whose,
    )
