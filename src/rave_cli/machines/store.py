"""Machine directories: made whole or not at all, read with care, locked while they change."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import nixstore, paths, process, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.manifest import give_data, give_origin, give_plan, quick_check
from rave_cli.machines import certificate, public
from rave_cli.machines.disks import Disks, begin_data, begin_system, make_disk
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from rave_cli.machines.spec import (
    CACHE_GIB,
    Machine,
    MachineSpec,
    check_name,
    choose_forwards,
    choose_resources,
    locate,
    machines_dir,
)
from rave_cli.records import DamagedRecordError, NewerRecordError, RecordFormat, amend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Forward, Network
    from rave_cli.profiles.catalog import Plan
    from rave_cli.profiles.names import Mode
    from rave_cli.records import Document

RECORD = "machine.json"


@dataclass(frozen=True)
class StoredMachine:
    """The content of machine.json."""

    machine: MachineSpec


def _give_states(document: Document) -> Document:
    """Upgrade: nobody could protect or rename a machine."""
    return amend(amend(document, "machine.protected", False), "machine.renamed_to", None)


def _give_pages(document: Document) -> Document:
    """Upgrade: no machine kept a port for its pages; the next start chooses one."""
    return amend(amend(document, "machine.pages", None), "machine.own_origin", None)


def _give_data(document: Document) -> Document:
    """Upgrade: what services keep was on the system's disk, and stays there."""
    return amend(give_data(document, "machine.image."), "machine.data_of", None)


MACHINE = RecordFormat(
    title="the record of a machine",
    shape=StoredMachine,
    version=7,
    upgrades={
        1: lambda document: give_plan(document, "machine.image."),
        2: lambda document: _give_states(give_origin(document, "machine.image.")),
        # All were made from images.
        3: lambda document: amend(document, "machine.template", None),
        4: _give_pages,
        # None had a second disk.
        5: lambda document: amend(document, "machine.has_cache", False),
        6: _give_data,
    },
)


@dataclass(frozen=True)
class Unreadable:
    """A machine directory whose record cannot be read, and why."""

    name: str
    error: RaveError

    @property
    def state(self) -> str:
        """What is shown where other machines show what they do."""
        return "newer" if isinstance(self.error, NewerRecordError) else "damaged"

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows: it is not hidden."""
        return {"name": self.name, "state": self.state, "detail": self.error.message}


def new_spec(
    plan: Plan,
    image: Image,
    *,
    name: str,
    mode: Mode,
    memory_mib: int | None = None,
    cpus: int | None = None,
    disk_gib: int | None = None,
    forwards: Sequence[Forward] = (),
    network: Network = "isolated",
    own_origin: str | None = None,
    has_cache: bool = False,
    instance_id: str | None = None,
) -> MachineSpec:
    """Return the specification of a new machine: the plan's, where nothing else is asked for.

    An image's own plan stands before `plan`, which is today's. `instance_id` is one that nobody
    has; None draws one.

    Raises:
        RaveError: USAGE for a bad name, port or size; HOST if the image's plan cannot be read.
    """
    if image.plan is not None:
        plan = _carried().read(image.plan).plan
    memory, processors, disk = choose_resources(
        plan, mode, memory_mib=memory_mib, cpus=cpus, disk_gib=disk_gib
    )
    spec = MachineSpec(
        name=check_name(name),
        uuid=str(uuid.uuid4()),
        instance_id=instance_id or secrets.token_hex(16),
        profile=plan.profile,
        base=plan.base,
        mode=mode,
        memory_mib=memory,
        cpus=processors,
        disk_gib=disk,
        forwards=choose_forwards(plan, forwards),
        network=network,
        image=image,
        own_origin=own_origin,
        has_cache=has_cache,
    )
    return public.settle(spec, plan.status_port)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine's lock: nobody else creates, starts, changes or deletes it meanwhile.

    Raises:
        RaveError: HOST if another command holds it.
    """
    with paths.lock(
        machines_dir() / f".{check_name(name)}.lock",
        busy=f"another rave command is creating, starting, changing or deleting machine {name}",
    ):
        yield


def create(spec: MachineSpec, base: Disks | None = None, disks: Disks | None = None) -> Machine:
    """Make a machine: identity, pinned host key, disks and record; it appears at once or not at
    all.

    Args:
        spec: what it is to be.
        base: the disks of the template that it is made from.
        disks: those of another machine of the same image and base, of which it gets copies.

    Raises:
        RaveError: USAGE if the name is taken; HOST if the image is truncated, a tool is missing or
            the disk is full; SECRETS if rave's authority cannot issue its certificate.
    """
    process.require("qemu-img")
    quick_check(spec.image)
    with locked(spec.name):
        machine = locate(spec)
        if machine.directory.exists():
            raise taken(spec.name)
        _sweep(spec.name)
        paths.private_dir(machines_dir())
        with paths.refusing(machines_dir()):
            draft = Path(tempfile.mkdtemp(prefix=f".new-{spec.name}.", dir=machines_dir()))
        try:
            fill(replace(machine, directory=draft), base, disks)
            with paths.refusing(machine.directory):
                draft.rename(machine.directory)
                paths.sync_dir(machines_dir())
            keep_image(machine)
        except BaseException:
            with signals.held():
                for place in (draft, machine.directory):
                    shutil.rmtree(place, ignore_errors=True)
            raise
        return machine


def fill(machine: Machine, base: Disks | None = None, disks: Disks | None = None) -> None:
    """Write everything a machine's directory holds before its first start.

    Raises:
        RaveError: as `create`.
    """
    # Only now: the keys' library takes long to import, and hardly a command makes a machine.
    from rave_cli.machines import identity

    identity.write(machine)
    if machine.spec.public_origin is None:
        _fill(machine, base, disks)
        return
    # What that takes is loaded while qemu-img makes the disk.
    with ThreadPoolExecutor(1) as beside:
        beside.submit(certificate.load)
        _fill(machine, base, disks)
    certificate.of(machine)


def _fill(machine: Machine, base: Disks | None, disks: Disks | None) -> None:
    give_plan_of(machine.spec.image, machine.plan)
    if base is not None:
        # Names of its own: whoever gives the template up does not take them from the machine.
        for place, other in ((machine.base_disk, base.system), (machine.base_data, base.data)):
            if other is not None:
                with paths.refusing(place):
                    place.hardlink_to(other)
    if machine.spec.has_cache:
        make_disk(machine.cache_disk, f"{CACHE_GIB}G")
    own = Disks.of(machine)
    if disks is None:
        begin_system(machine)
        begin_data(machine)
    else:
        for source, target in ((disks.system, own.system), (disks.data, own.data)):
            if source is not None and target is not None:
                paths.copy_private(source, target)
    save(machine)


def save(machine: Machine) -> None:
    """Write a machine's record. The caller holds the lock, unless nobody knows the machine yet.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    MACHINE.write(machine.directory / RECORD, StoredMachine(machine=machine.spec))


def save_at(place: Path, spec: MachineSpec) -> None:
    """Write what a machine is to another file than its own: that of another time.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    MACHINE.write(place, StoredMachine(machine=spec), mode=0o600)


def give_plan_of(image: Image, place: Path) -> None:
    """Write the plan of an image, if it has one, as each machine carries it.

    Raises:
        RaveError: HOST if it cannot be read or written.
    """
    if image.plan is not None:
        carried = _carried()
        carried.write(place, carried.read(image.plan))


def keep_image(machine: Machine) -> None:
    """Make the machine a garbage-collection root of its image: the overlay is nothing without it.

    A newer image takes over the root that the build had made.

    Raises:
        RaveError: HOST if Nix refuses.
    """
    keep_image_at(machine.spec.image, machine.spec.mode, machine.image_root)


def keep_image_at(image: Image, mode: Mode, link: Path) -> None:
    """Let a link be a garbage-collection root of an image.

    Raises:
        RaveError: HOST if Nix refuses.
    """
    store = nixstore.directory() if image.base == "debian" else nixstore.HOST_STORE
    missing = store not in Path(image.store_path).parents or process.find("nix-store") is None
    if missing or Path(image.store_path) == link.resolve():
        return
    from rave_cli.images.nix import Nix

    done = process.run(
        ["nix-store", "--realise", image.store_path, "--add-root", link, "--indirect"],
        env=Nix(image.base, mode).environment(),
        timeout=60,
    )
    if not done.ok:
        raise RaveError(
            f"the image {image.qcow2.name} cannot be kept in the Nix store for {link}",
            hint=f"rave vm build-image --profile {image.profile} --base {image.base}",
            exit_code=ExitCode.HOST,
            detail=done.tail(),
        )


def load(name: str, among: Sequence[processes.Process] | None = None) -> Machine:
    """Return an existing machine. `among` is what processes.machines found, for whoever loads
    several.

    Raises:
        RaveError: USAGE for a bad or unknown name; HOST if its record is missing, damaged or of a
            newer rave.
    """
    directory = machines_dir() / check_name(name)
    if not directory.is_dir():
        known = stored_names()
        raise RaveError(
            f"there is no machine {name!r} (there are: {', '.join(known) or 'none'})",
            hint=f"rave vm launch-local --profile demo --name {name}",
            exit_code=ExitCode.USAGE,
        )
    place = directory / RECORD
    hint = f"put {place} right, or back from a copy; disk and keys beside it are untouched"
    try:
        spec = MACHINE.read(place, hint=hint).machine
        if spec.renamed_to == name:
            spec = replace(spec, name=name, renamed_to=None)
        if spec.name != name:
            raise MACHINE.damaged(place, (f"it is the record of machine {spec.name!r}",), hint)
    except DamagedRecordError as error:
        error.detail += (f"to give the machine up, disk and all: rave vm delete {name} --force",)
        raise
    return processes.placed(locate(spec), among)


def plan(machine: Machine) -> Plan | None:
    """Return the plan that a machine carries; None if rave 0.1.0 made it.

    Raises:
        RaveError: HOST if it is damaged or of a newer rave.
    """
    return _carried().read(machine.plan).plan if machine.plan.exists() else None


def _carried() -> ModuleType:
    """Return the reader of plans, only now: pydantic, which checks them, takes longer to import
    than whoever needs no plan may take.
    """
    from rave_cli.images import carried

    return carried


def list_machines(
    among: Sequence[processes.Process] | None = None,
) -> list[Machine | Unreadable]:
    """Return every machine, sorted by name; one whose record cannot be read as such. `among` is
    what processes.machines has found already.
    """
    among = processes.machines() if among is None else among
    found: list[Machine | Unreadable] = []
    for name in stored_names():
        try:
            found.append(load(name, among))
        except RaveError as error:
            found.append(Unreadable(name, error))
    return found


def remove(name: str, runtime: Path | None) -> None:
    """Delete a machine's directories, `runtime` being the one of its sockets. The caller holds the
    lock and has ended its QEMU.

    Raises:
        RaveError: HOST if something cannot be removed.
    """
    directory = machines_dir() / check_name(name)
    grave = machines_dir() / f".old-{name}.{secrets.token_hex(4)}"
    with paths.refusing(directory):
        if directory.exists():
            # Once renamed it is gone for every other command, however long the rest takes.
            directory.rename(grave)
        _sweep(name)
    # It may come from an argv: nothing but a directory of rave's is removed.
    if runtime is not None and runtime.parent.name in ("rave", f"rave-{os.getuid()}"):
        shutil.rmtree(runtime, ignore_errors=True)


def _sweep(name: str) -> None:
    """Remove what a killed command may have left of this machine."""
    for pattern in (f".new-{name}.*", f".old-{name}.*"):
        for path in machines_dir().glob(pattern):
            with paths.refusing(path):
                shutil.rmtree(path)


def taken(name: str) -> RaveError:
    """Return the error of a name that is in use."""
    return RaveError(
        f"machine {name} exists already",
        hint=f"rave vm start {name}; or rave vm delete {name}; or choose another --name",
        exit_code=ExitCode.USAGE,
    )
