"""The systems that a machine had: exchanged whole, and kept beside the data of their time.

A generation is a directory in the machine's: its record as it was, the disk of its system, its plan
and its data at one moment. There are `previous`, which an update can be taken back to, and those in
`set-aside`, which something was put in the place of. `change` is where the next one is made.

An exchange is renames alone, in a fixed order, each of which is done or not; whoever does it again
completes it. The machine's record comes last. Nothing of a generation is deleted here but what
never ran, and the previous one when the next has proved itself.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import disks, preflight, store, underway
from rave_cli.machines.qemu import processes
from rave_cli.machines.spec import choose_forwards
from rave_cli.machines.underway import Change, Exchange

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.machines.underway import Kind
    from rave_cli.profiles.catalog import Plan

PREVIOUS, ASIDE = "previous", "set-aside"
WORK = "change"
# In it: what is to come, what was, and what came and never ran.
NEW, OLD, UNUSED = f"{WORK}/new", f"{WORK}/old", f"{WORK}/unused"
IMAGE_ROOT = "image"
DISK, DATA, PLAN = "disk.qcow2", "data.qcow2", "plan.json"
STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Generation:
    """A system that a machine had, with its data: the directory, and what the machine was."""

    place: Path
    spec: MachineSpec
    since: float

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        return {
            "image": self.spec.image.sha256,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since)),
            "place": str(self.place),
        }


def read(place: Path) -> Generation | None:
    """Return the generation in a directory; None if there is none.

    Raises:
        RaveError: HOST if its record is damaged or of a newer rave.
    """
    record = place / store.RECORD
    if not record.exists() or not (place / DISK).exists():
        return None
    hint = f"put {record} right, or back from a copy"
    spec = store.MACHINE.read(record, hint=hint).machine
    return Generation(place, spec, record.stat().st_mtime)


def places(machine: Machine) -> list[Path]:
    """Return where generations of a machine may be, one that is being exchanged among them."""
    aside = sorted((machine.directory / ASIDE).glob("*"))
    return [machine.directory / name for name in (PREVIOUS, OLD, NEW, UNUSED)] + aside


def previous(machine: Machine) -> Generation | None:
    """Return what a machine was before its last update, if that is kept.

    Raises:
        RaveError: HOST if its record is damaged or of a newer rave.
    """
    return read(machine.directory / PREVIOUS)


def set_aside(machine: Machine) -> list[Generation]:
    """Return what was set aside, the oldest first.

    Raises:
        RaveError: HOST if a record is damaged or of a newer rave.
    """
    places = sorted((machine.directory / ASIDE).glob("*"))
    return [found for place in places if (found := read(place)) is not None]


def replaced(machine: Machine) -> str | None:
    """Return the sha256 of the image in whose place a machine's came; None if it is its first, or
    nothing is known of the one before.
    """
    change = underway.read(machine)
    if change is not None and change.step in ("trying", "keeping"):
        return change.before
    before = previous(machine)
    return None if before is None else before.spec.image.sha256


def begin(machine: Machine, kind: Kind, image: Image, *, runs: bool) -> Change:
    """Note that another system is made ready; what a killed command left of one goes.

    Raises:
        RaveError: HOST if that cannot be written.
    """
    change = Change(
        kind, "preparing", time.time(), machine.spec.image.sha256, image.sha256, runs=runs
    )
    underway.note(machine, change)
    _clear(machine, WORK)
    return change


def prepare(machine: Machine, image: Image, plan: Plan, *, data: bool = False) -> None:
    """Make another system ready beside the one that may run; with `data` a first data disk, too.

    Raises:
        RaveError: HOST if there is no room, or a tool is missing.
    """
    spec = machine.spec
    new = paths.private_dir(paths.private_dir(machine.directory / WORK) / "new")
    paths.private_dir(machine.directory / OLD)
    store.keep_image_at(spec.image, spec.mode, machine.directory / OLD / IMAGE_ROOT)
    disks.make_disk(new / DISK, str(disks.virtual_size(image.qcow2)), below=image.qcow2)
    if data and image.data is not None:
        disks.copy_first(image.data, new / DATA, spec.disk_gib)
    store.give_plan_of(image, new / PLAN)
    exposed = {port.port for port in plan.exposed} | {22}
    asked = [forward for forward in spec.forwards if forward.guest in exposed]
    store.save_at(
        new / store.RECORD,
        replace(spec, image=image, forwards=choose_forwards(plan, asked)),
    )


def keep_data(machine: Machine) -> None:
    """Copy the data of a machine that stands still, for a way back.

    Raises:
        RaveError: HOST if there is no room.
    """
    paths.copy_private(machine.data_disk, machine.directory / OLD / DATA)


def stopping(machine: Machine, change: Change) -> Change:
    """Note that the old system is told to shut down, after which it does so whoever waits for it.

    Raises:
        RaveError: HOST if that cannot be written.
    """
    change = replace(change, step="stopping")
    underway.note(machine, change)
    return change


def put_in_place(machine: Machine, change: Change) -> tuple[Machine, Change]:
    """Let what is ready take the place of what the machine is; returns both as they are then.

    Raises:
        RaveError: USAGE if the machine runs; HOST if a file cannot be moved. Going back is possible
            wherever it ends.
    """
    brings = _names(machine.directory / NEW)
    takes = tuple(name for name in (DISK, PLAN) if (machine.directory / name).exists())
    exchange = Exchange(NEW, OLD, takes, brings)
    with store.locked(machine.name):
        _refuse_running(machine)
        change = replace(change, step="exchanging", exchange=exchange)
        underway.note(machine, change)
        with signals.held():
            machine = _exchange(machine, exchange)
            change = replace(change, step="trying", exchange=None)
            underway.note(machine, change)
    return machine, change


def keep(machine: Machine, change: Change) -> None:
    """Let the new system stay: what was before takes the place of what was before that.

    Raises:
        RaveError: HOST if a file cannot be moved.
    """
    underway.note(machine, replace(change, step="keeping"))
    with signals.held():
        _keep(machine)
        underway.end(machine)


def _keep(machine: Machine) -> None:
    old, place = machine.directory / OLD, machine.directory / PREVIOUS
    with paths.refusing(place):
        if read(old) is not None:
            if place.exists():
                _clear(machine, f"{WORK}/older")
                place.rename(machine.directory / WORK / "older")
            old.rename(place)
            paths.sync_dir(machine.directory)
    kept = read(place)
    if kept is not None:
        _root_anew(kept)
    _clear(machine, WORK)


def go_back(machine: Machine, change: Change, why: str) -> tuple[Machine, Path | None]:
    """Put back what was before a change that has not ended; returns the machine as it is then, and
    where what ran meanwhile was set aside, if it did. The machine does not run.

    Raises:
        RaveError: USAGE if it runs; HOST if a file cannot be moved. The same again completes it.
    """
    if change.step in ("preparing", "stopping"):
        with signals.held():
            _clear(machine, WORK)
            underway.end(machine)
        return machine, None
    with store.locked(machine.name):
        _refuse_running(machine)
        with signals.held():
            if change.step == "exchanging" and change.exchange is not None:
                machine = _exchange(machine, change.exchange)
            going = UNUSED if change.step == "exchanging" else _stamped(machine)
            return _return(machine, replace(change, why=why), OLD, going)


def restore(machine: Machine, found: Generation, change: Change) -> tuple[Machine, Path | None]:
    """Put a generation in the place of what a stopped machine is, which is set aside.

    Raises:
        RaveError: as `go_back`.
    """
    with store.locked(machine.name):
        _refuse_running(machine)
        preflight.refuse_half_restored(machine)
        with signals.held():
            coming = str(found.place.relative_to(machine.directory))
            return _return(machine, change, coming, _stamped(machine))


def settle(machine: Machine, change: Change) -> tuple[Machine, Path | None]:
    """Complete, or take back, a change whose command was killed; as `go_back`."""
    if change.step == "keeping":
        with signals.held():
            _keep(machine)
            underway.end(machine)
        return machine, None
    if change.step == "returning" and change.exchange is not None:
        with store.locked(machine.name), signals.held():
            _refuse_running(machine)
            return _returned(machine, change.exchange)
    return go_back(machine, change, "its command was killed")


def _return(
    machine: Machine, change: Change, coming: str, going: str
) -> tuple[Machine, Path | None]:
    takes = tuple(name for name in (DATA, DISK, PLAN) if (machine.directory / name).exists())
    exchange = Exchange(coming, going, takes, _names(machine.directory / coming))
    underway.note(machine, replace(change, step="returning", exchange=exchange))
    return _returned(machine, exchange)


def _returned(machine: Machine, exchange: Exchange) -> tuple[Machine, Path | None]:
    # Its record goes when all else has come of it.
    if (machine.directory / exchange.coming / store.RECORD).exists():
        machine = _exchange(machine, exchange)
    aside = None
    if exchange.going != UNUSED:
        aside = machine.directory / exchange.going
        found = read(aside)
        if found is not None:
            _root_anew(found)
    # Nothing is in it but the record, and a link.
    _clear(machine, exchange.coming)
    _clear(machine, WORK)
    underway.end(machine)
    return machine, aside


def _exchange(machine: Machine, exchange: Exchange) -> Machine:
    """Move the files, and write the machine's record last; whoever does it again completes it."""
    place = machine.directory
    coming, going = place / exchange.coming, place / exchange.going
    spec = store.MACHINE.read(coming / store.RECORD, hint=f"look into {coming}").machine
    with paths.refusing(place):
        paths.private_dir(going.parent)
        paths.private_dir(going)
        if not (going / store.RECORD).exists():
            store.save_at(going / store.RECORD, machine.spec)
        for name in sorted({*exchange.takes, *exchange.brings}):
            live, new, old = place / name, coming / name, going / name
            leaves = new.exists() or name not in exchange.brings
            if name in exchange.takes and leaves and live.exists() and not old.exists():
                live.rename(old)
            if new.exists():
                new.rename(live)
        for directory in (coming, going, place):
            paths.sync_dir(directory)
    changed = replace(machine, spec=_merged(machine.spec, spec))
    store.save(changed)
    store.keep_image(changed)
    if (
        changed.spec.has_data
        and disks.virtual_size(changed.data_disk) < changed.spec.disk_gib << 30
    ):
        disks.grow_disk(changed.data_disk, f"{changed.spec.disk_gib}G")
    return changed


def _merged(now: MachineSpec, other: MachineSpec) -> MachineSpec:
    """Return what a machine is with the image of another time: name, sizes and keys are today's."""
    same_disk = now.has_data == other.has_data
    return replace(
        now,
        image=other.image,
        forwards=other.forwards,
        disk_gib=now.disk_gib if same_disk else other.disk_gib,
    )


def _names(place: Path) -> tuple[str, ...]:
    return tuple(name for name in (DATA, DISK, PLAN) if (place / name).exists())


def _stamped(machine: Machine) -> str:
    """Return a place for what is set aside, which nothing has."""
    stamp = time.strftime(STAMP, time.gmtime())
    taken = {place.name for place in (machine.directory / ASIDE).glob("*")}
    names = (stamp, *(f"{stamp}-{number}" for number in range(2, 1000)))
    return f"{ASIDE}/{next(name for name in names if name not in taken)}"


def _root_anew(found: Generation) -> None:
    """Keep the image of a generation: Nix knows a root by its path, which has changed."""
    link = found.place / IMAGE_ROOT
    with paths.refusing(link):
        link.unlink(missing_ok=True)
    store.keep_image_at(found.spec.image, found.spec.mode, link)


def _clear(machine: Machine, name: str) -> None:
    place = machine.directory / name
    with paths.refusing(place):
        if place.exists():
            shutil.rmtree(place)


def keep_images(machine: Machine) -> None:
    """Keep the images of all generations of a machine that has another name now.

    Raises:
        RaveError: HOST if Nix refuses.
    """
    before = previous(machine)
    for found in (*([before] if before else []), *set_aside(machine)):
        _root_anew(found)


def forget(found: Generation) -> None:
    """Delete a generation. The caller holds the machine's lock.

    Raises:
        RaveError: HOST if it cannot be removed.
    """
    grave = found.place.with_name(f".old-{found.place.name}")
    with paths.refusing(found.place):
        if grave.exists():
            shutil.rmtree(grave)
        found.place.rename(grave)
        shutil.rmtree(grave)


def _refuse_running(machine: Machine) -> None:
    if processes.find(machine) is not None:
        raise RaveError(
            f"machine {machine.name} is running; its system cannot be exchanged",
            hint=f"rave vm stop {machine.name}",
            exit_code=ExitCode.USAGE,
        )
