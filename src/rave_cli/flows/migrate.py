"""Give a machine of before data disks one: its state goes through the door into a backup, and from
that onto the new disk, under the newest image. The old disk is kept, and is the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import backup as backups
from rave_cli.flows import restore, update
from rave_cli.flows import vault as vaults
from rave_cli.flows.events import Event
from rave_cli.flows.trial import SystemTrial
from rave_cli.images import difference
from rave_cli.machines import underway
from rave_cli.machines.qemu import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.update import UpdateReport
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.settings import Settings


def migrate(
    name: str,
    catalog: Catalog,
    settings: Settings,
    *,
    build: bool,
    check: bool,
    on_event: OnEvent,
) -> UpdateReport:
    """Give a running machine a data disk with what its services keep.

    Args:
        name: the machine.
        catalog: the profiles, and the secrets there should be.
        settings: where the flake, the signing key and the backups are.
        build: whether the image must be what the checkout around us describes.
        check: whether the smoke suite must pass with it.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if it has one, does not run or its base has none; as `backup.now`,
            `restore.into` and `update.update`. The machine is as it was then.
    """
    with underway.alone(name):
        machine, _ = update.stands(name, on_event=on_event)
        _refuse(machine)
        backups.keeps_something(machine)
        image, plan = update.newest(machine, catalog, settings, build=build, on_event=on_event)
        found = difference.compare(machine.spec.image, image, keeps_data=False)
        update.make_ready(catalog, check=check, on_event=on_event)

        def fetch(old: Machine) -> Callable[[Machine], None]:
            backup = backups.make(old, settings, on_event=on_event).backup
            target = vaults.opened(settings)

            def fill(new: Machine) -> None:
                restore.put(new, target, backup, on_event=on_event)

            text = f"from here on the backup {backup.name} counts: what is written to {name} until"
            on_event(Event("note", "update", f"{text} it stops stays on its old disk alone"))
            return fill

        trial = SystemTrial(
            machine, image, plan, "migration", settings, runs=True, check=check, on_event=on_event,
            fetch=fetch,
        )  # fmt: skip
        return update.UpdateReport(machine, found, trial.run())


def _refuse(machine: Machine) -> None:
    name = machine.name
    if machine.spec.base != "debian":
        update.require_data_disk(machine)
    if machine.spec.has_data:
        raise RaveError(
            f"machine {name} has a data disk already ({machine.data_disk})",
            hint=f"rave vm update {name}",
            exit_code=ExitCode.USAGE,
        )
    if processes.find(machine) is None:
        raise RaveError(
            f"machine {name} does not run: its services hand over what they keep",
            hint=f"rave vm start {name}",
            exit_code=ExitCode.USAGE,
        )
