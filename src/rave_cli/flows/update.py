"""Update a machine: another image's system takes the place of its own, with the same data; and take
that back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import dumping, secure, unsettled
from rave_cli.flows import image as images
from rave_cli.flows import machine as machines
from rave_cli.flows.events import Event
from rave_cli.flows.trial import SystemTrial, Tried
from rave_cli.images import difference
from rave_cli.images.manifest import quick_check
from rave_cli.machines import generations, preflight, store, underway
from rave_cli.machines.qemu import processes
from rave_cli.secrets.store import place

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.flows.dumping import DumpRoom
    from rave_cli.flows.events import OnEvent
    from rave_cli.images.difference import ImageDifference
    from rave_cli.images.manifest import Image
    from rave_cli.machines.generations import Generation
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Catalog, Plan
    from rave_cli.settings import Settings


@dataclass(frozen=True)
class UpdateReport:
    """What an update changes, and what came of it: None if nothing had to be done, or was only
    asked about; `room` is what its databases take to be dumped, if they are.
    """

    machine: Machine
    difference: ImageDifference
    tried: Tried | None = None
    room: DumpRoom | None = None

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        tried = self.tried
        kept = None if tried is None else generations.previous(tried.machine)
        return {
            "machine": self.machine.name,
            **self.difference.document(),
            "dump": None if self.room is None else self.room.document,
            "updated": tried is not None,
            "downtimeSeconds": None if tried is None else round(tried.downtime, 3),
            "smoke": None if tried is None or tried.run is None else tried.run.document(),
            "previous": None if kept is None else kept.document,
        }


@dataclass(frozen=True)
class RolledBack:
    """A machine that has a system and data of before; `ready` is None if it did not run, `aside`
    where what was written since is.
    """

    machine: Machine
    since: float
    aside: Path | None
    ready: Ready | None

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "machine": self.machine.name,
            "image": self.machine.spec.image.sha256,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since)),
            "setAside": None if self.aside is None else str(self.aside),
            "running": self.ready is not None,
        }


def look(
    name: str, catalog: Catalog, settings: Settings, *, build: bool, on_event: OnEvent
) -> UpdateReport:
    """Return what an update of a machine would change; nothing is done to it.

    Raises:
        RaveError: as `update`, but for obstacles, which the report has.
    """
    machine = store.load(name)
    require_data_disk(machine)
    image, _ = newest(machine, catalog, settings, build=build, on_event=on_event)
    found = difference.compare(machine.spec.image, image)
    room = dumping.look(machine) if found.server is not None and not found.obstacles else None
    return UpdateReport(machine, found, room=room)


def newest(
    machine: Machine, catalog: Catalog, settings: Settings, *, build: bool, on_event: OnEvent
) -> tuple[Image, Plan]:
    """Return the image of a machine's profile and base that is the newest, and its plan: what the
    checkout around us describes, or with `build` unset what was built last.

    Raises:
        RaveError: as building does; HOST if there is none, or it cannot be updated to.
    """
    spec = machine.spec
    today = catalog.plan(spec.profile, spec.base).in_mode(spec.mode)
    image = images.get(today, settings, mode=spec.mode, on_event=on_event, current=build)
    quick_check(image)
    if image.data is None or image.plan is None:
        lacks = "disk for data" if image.data is None else "plan"
        raise RaveError(
            f"the image {image.qcow2.name} has no {lacks}: an older rave built it",
            hint=f"rave vm build-image --profile {spec.profile} --base {spec.base}",
            exit_code=ExitCode.HOST,
        )
    return image, difference.plan_of(image) or today


def update(
    name: str,
    catalog: Catalog,
    settings: Settings,
    *,
    build: bool,
    check: bool,
    on_event: OnEvent,
) -> UpdateReport:
    """Let a machine have the system of the newest image, if that is another than its own.

    Args:
        name: the machine.
        catalog: the profiles, and the secrets there should be.
        settings: where the flake and the signing key are.
        build: whether the image must be what the checkout around us describes.
        check: whether the smoke suite must pass with it.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if it is suspended, has no data disk, or something speaks against it; as
            building, starting, installing secrets and checking do. The machine is as it was then.
    """
    with underway.alone(name):
        machine, runs = stands(name, on_event=on_event)
        require_data_disk(machine)
        image, plan = newest(machine, catalog, settings, build=build, on_event=on_event)
        found = UpdateReport(machine, difference.compare(machine.spec.image, image))
        if not found.difference.changed:
            return found
        _refuse_obstacles(machine, found.difference)
        for unknown in found.difference.unknown:
            text = f"an image does not tell its {unknown}, so that is not compared"
            on_event(Event("note", "update", text))
        if found.difference.older:
            text = "the new image's packages were chosen before those that the machine has"
            on_event(Event("warning", "update", text))
        room = None if found.difference.server is None else dumping.require(machine)
        make_ready(catalog, check=check, on_event=on_event)
        trial = SystemTrial(
            machine, image, plan, "update", settings, runs=runs, check=check, on_event=on_event,
            last=None if room is None else partial(dumping.dump, room=room, on_event=on_event),
        )  # fmt: skip
        return UpdateReport(machine, found.difference, trial.run(), room)


def stands(name: str, *, on_event: OnEvent) -> tuple[Machine, bool]:
    """Return a machine whose system may be exchanged, and whether it is to run afterwards: it runs,
    or did before a command that was killed. The caller is alone with it.

    Raises:
        RaveError: USAGE if it is suspended; HOST if its disks are not whole.
    """
    killed = underway.read(store.load(name))
    machine = unsettled.settle_alone(name, on_event=on_event)
    if machine.suspended.is_dir():
        raise RaveError(
            f"machine {name} is suspended: its memory belongs to the system that it has",
            hint=f"rave vm resume {name}; or rave vm resume {name} and rave vm stop {name}",
            exit_code=ExitCode.USAGE,
        )
    preflight.check(machine)
    ran = killed is not None and killed.runs
    return machine, ran or processes.find(machine) is not None


def make_ready(catalog: Catalog, *, check: bool, on_event: OnEvent) -> None:
    """Find out what would fail later, and make the secrets that are new.

    Raises:
        RaveError: HOST if there is no place for the reports; SECRETS if the secrets file is not
            what it should be.
    """
    if check and paths.working_dir() is None:
        raise RaveError(
            "the working directory is gone, and with it the place of the smoke suite's reports",
            hint="cd to another one; or --skip-smoke",
            exit_code=ExitCode.HOST,
        )
    file = place(None)
    if file.exists():
        made = secure.make(file, catalog.secrets, on_event=on_event)
        if made.added:
            on_event(Event("note", "secrets", f"made {len(made.added)} secrets in {file}"))


def require_data_disk(machine: Machine) -> None:
    """Refuse a machine whose system and data are on one disk.

    Raises:
        RaveError: USAGE.
    """
    if machine.spec.has_data:
        return
    spec = machine.spec
    raise RaveError(
        f"machine {machine.name} has no data disk: what its services keep is on that of its system",
        hint=f"rave vm migrate {machine.name} gives it one"
        if spec.base == "debian"
        else "only machines on the Debian base have one; rave up --fresh makes one anew",
        exit_code=ExitCode.USAGE,
    )


def _refuse_obstacles(machine: Machine, found: ImageDifference) -> None:
    if not found.obstacles:
        return
    raise RaveError(
        f"machine {machine.name} cannot be updated with its data: {found.obstacles[0]}",
        hint=f"rave backup now {machine.name}; then rave backup restore {machine.name} --to NEW"
        " makes a new machine of the new image",
        exit_code=ExitCode.USAGE,
        detail=found.obstacles[1:],
    )


def rollback(name: str, *, undo: bool, on_event: OnEvent) -> RolledBack:
    """Put back the system and the data that a machine had before its last update. What it has now
    is set aside, and nothing of it deleted.

    Args:
        name: the machine.
        undo: put back instead what was set aside last.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if there is nothing to go back to, or it is suspended; HOST if the image of
            that time is gone; as stopping and starting do.
    """
    with underway.alone(name):
        machine, runs = stands(name, on_event=on_event)
        found = _wanted(machine, undo=undo)
        quick_check(found.spec.image)
        before, after = machine.spec.image.sha256, found.spec.image.sha256
        change = underway.Change("rollback", "stopping", time.time(), before, after, runs=runs)
        underway.note(machine, change)
        machines.stop(machine, on_event=on_event)
        machine, aside = generations.restore(machine, found, change)
        on_event(Event("warning", "update", unsettled.told_aside(machine, aside)))
        ready = machines.boot(machine, on_event=on_event) if runs else None
        return RolledBack(machine, found.since, aside, ready)


def _wanted(machine: Machine, *, undo: bool) -> Generation:
    name = machine.name
    aside = generations.set_aside(machine)
    found = (aside[-1] if aside else None) if undo else generations.previous(machine)
    if found is None:
        what = "set aside" if undo else "kept of before an update"
        hint = f"rave backup list; rave vm snapshot list {name}"
        if aside and not undo:
            hint = f"rave vm rollback {name} --undo brings back what was set aside last"
        raise RaveError(f"nothing is {what} of machine {name}", hint=hint, exit_code=ExitCode.USAGE)
    return found
