"""Snapshots of a machine: its disks at one moment and, if it ran or was suspended, its memory.

A snapshot is whole by itself: copies of the machine's disks (an overlay on the read-only image, so
some hundred MB, and its data) and a saved memory as `suspend` makes it. Restoring puts copies of
all in place, after which the machine is stopped, or suspended. Source of the copy:
copy_file_range(2), which shares blocks where the file system can.
"""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import preflight, saved, store, suspend, underway
from rave_cli.machines.disks import Disks
from rave_cli.machines.qemu import processes
from rave_cli.machines.saved import SavedState  # noqa: TC001 - the record reads the annotations
from rave_cli.machines.spec import NAME_RULE
from rave_cli.records import RecordFormat, amend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from rave_cli.records import Document

RECORD = "snapshot.json"
DISK, DATA = "disk.qcow2", "data.qcow2"
# What the guest had reported until then: with later reports, a memory put back would look as if it
# had gone on to its end.
STAGES = "stages.jsonl"


@dataclass(frozen=True)
class SnapshotRecord:
    """The content of snapshot.json: when it was taken, of which image and disk, and what its memory
    belongs to; None if there is none.
    """

    since: float
    image: str
    disk_gib: int
    state: SavedState | None


def _give_data(document: Document) -> Document:
    """Upgrade: no machine had a data disk."""
    return document if document.get("state") is None else amend(document, "state.data", None)


SNAPSHOT = RecordFormat(
    title="the record of a snapshot", shape=SnapshotRecord, version=2, upgrades={1: _give_data}
)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that exists; sizes in MiB."""

    name: str
    place: Path
    record: SnapshotRecord

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        sizes = {name: _mib(self.place / file) for name, file in FILES.items()}
        return {
            "name": self.name,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.record.since)),
            "running": self.record.state is not None,
            **sizes,
        }


FILES = {"diskMiB": DISK, "dataMiB": DATA, "memoryMiB": saved.MEMORY}


def folder(machine: Machine) -> Path:
    """Return the directory of a machine's snapshots."""
    return machine.directory / "snapshots"


def disks_in(machine: Machine, place: Path) -> Disks:
    """Return the disks in the directory of a snapshot of a machine."""
    return Disks(place / DISK, place / DATA if machine.spec.has_data else None)


def check_name(name: str) -> str:
    """Return `name` if it may be a snapshot's name.

    Raises:
        RaveError: USAGE if it does not follow the rule of machines' names.
    """
    if NAME_RULE.fullmatch(name) is None:
        raise RaveError(
            f"{name!r} cannot be a snapshot's name: use 1 to 63 lower-case letters, digits and"
            " dashes, with a letter or digit at both ends",
            hint="rave vm snapshot create NAME before-upgrade",
            exit_code=ExitCode.USAGE,
        )
    return name


def create(machine: Machine, name: str) -> Snapshot:
    """Take a snapshot; a running machine stands still meanwhile.

    Raises:
        RaveError: USAGE if the name is taken; HOST if there is no room; as suspending does.
    """
    with store.locked(machine.name):
        underway.refuse(machine)
        place = folder(machine) / check_name(name)
        if place.exists():
            raise RaveError(
                f"machine {machine.name} has a snapshot {name} already",
                hint=f"rave vm snapshot list {machine.name}; choose another name",
                exit_code=ExitCode.USAGE,
            )
        _sweep(machine)
        draft = paths.private_dir(paths.private_dir(folder(machine)) / f".new-{name}")
        try:
            state = _take(machine, draft)
            record = SnapshotRecord(
                since=time.time(),
                image=machine.spec.image.sha256,
                disk_gib=machine.spec.disk_gib,
                state=state,
            )
            SNAPSHOT.write(draft / RECORD, record, mode=0o600)
            with signals.held(), paths.refusing(place):
                draft.rename(place)
                paths.sync_dir(place.parent)
        except BaseException:
            with signals.held():
                shutil.rmtree(draft, ignore_errors=True)
            raise
    return Snapshot(name, place, record)


def _take(machine: Machine, draft: Path) -> SavedState | None:
    """Copy what makes a machine at this moment; returns what its memory belongs to."""
    running = processes.find(machine)
    if running is not None:
        machine = processes.placed(machine)
        suspend.refuse_full_disk(machine, running.resident_mib + _disks_mib(machine))
        with suspend.standing_still(machine, running, draft / saved.MEMORY) as live:
            _copy_disks(machine, draft)
            paths.copy_private(machine.stage_file, draft / STAGES)
        return live
    preflight.refuse_half_restored(machine)
    state = saved.read(machine)
    suspend.refuse_full_disk(machine, _disks_mib(machine) + (saved.memory_size(machine) >> 20))
    if state is not None:
        paths.copy_private(machine.suspended / saved.MEMORY, draft / saved.MEMORY)
        paths.copy_private(machine.stage_file, draft / STAGES)
    _copy_disks(machine, draft)
    return state


def _disks_mib(machine: Machine) -> int:
    return sum(_mib(disk) for disk in machine.disks)


def _copy_disks(machine: Machine, draft: Path) -> None:
    for disk in machine.disks:
        paths.copy_private(disk, draft / disk.name)


def restore(machine: Machine, name: str) -> Snapshot:
    """Put a machine back to a snapshot: it is stopped afterwards, or suspended. What its disk and
    memory were is lost.

    Raises:
        RaveError: USAGE if it runs, or there is no such snapshot; HOST if there is no room, the
            snapshot is damaged, or of another image.
    """
    with store.locked(machine.name):
        found = load(machine, name)
        underway.refuse(machine)
        if processes.find(machine) is not None:
            raise RaveError(
                f"machine {machine.name} is running",
                hint=f"rave vm stop {machine.name}",
                exit_code=ExitCode.USAGE,
            )
        if found.record.image != machine.spec.image.sha256:
            raise RaveError(
                f"snapshot {name} was taken of another image than machine {machine.name} has",
                hint=f"rave vm snapshot list {machine.name}; after an update, rave vm rollback"
                f" {machine.name} brings the image of before back",
                exit_code=ExitCode.HOST,
            )
        suspend.refuse_full_disk(machine, sum(_mib(found.place / file) for file in FILES.values()))
        _put_back(machine, found)
    return found


def _put_back(machine: Machine, found: Snapshot) -> None:
    """Copy first, and then exchange: whatever breaks off before that has changed nothing."""
    drafts = [disk.with_name(f".{disk.stem}-new.qcow2") for disk in machine.disks]
    stages = machine.directory / ".stages-new.jsonl"
    with paths.refusing(machine.disk):
        for left in (*drafts, stages):
            left.unlink(missing_ok=True)
    try:
        for disk, draft in zip(machine.disks, drafts, strict=True):
            paths.copy_private(found.place / disk.name, draft)
        state = found.record.state
        if state is not None:
            paths.copy_private(found.place / saved.MEMORY, saved.draft(machine) / saved.MEMORY)
            paths.copy_private(found.place / STAGES, stages)
        with signals.held(), paths.refusing(machine.disk):
            # The memory of before must not come back over this disk, nor this over that of before.
            saved.put_aside(machine, but_draft=True)
            _exchange(machine, drafts, found.name)
            if state is not None:
                stages.rename(machine.stage_file)
            paths.sync_dir(machine.directory)
            if state is not None:
                saved.keep(machine, saved.with_disks(machine, state))
    finally:
        with signals.held(), suppress(OSError):
            for left in (*drafts, stages):
                left.unlink(missing_ok=True)


def _exchange(machine: Machine, drafts: Sequence[Path], name: str) -> None:
    """Put new disks in the places of a machine's. Nobody takes it for whole in between."""
    if len(drafts) > 1:
        paths.atomic_write(machine.half_restored, name.encode(), mode=0o600)
    for disk, draft in zip(machine.disks, drafts, strict=True):
        draft.rename(disk)
    paths.sync_dir(machine.directory)
    machine.half_restored.unlink(missing_ok=True)


def delete(machine: Machine, name: str) -> None:
    """Delete a snapshot.

    Raises:
        RaveError: USAGE if there is none; HOST if it cannot be removed.
    """
    with store.locked(machine.name):
        place = _existing(machine, name)
        with paths.refusing(place):
            # Once renamed it is gone for every other command, however long the rest takes.
            place.rename(place.with_name(f".old-{name}"))
        _sweep(machine)


def names(machine: Machine) -> list[str]:
    """Return the names of a machine's snapshots, sorted."""
    with suppress(FileNotFoundError):
        found = [entry.name for entry in folder(machine).iterdir()]
        return sorted(name for name in found if NAME_RULE.fullmatch(name))
    return []


def load(machine: Machine, name: str) -> Snapshot:
    """Return a snapshot.

    Raises:
        RaveError: USAGE if there is none; HOST if its record is damaged or of a newer rave.
    """
    place = _existing(machine, name)
    hint = f"put {place / RECORD} right, or back from a copy"
    return Snapshot(name, place, SNAPSHOT.read(place / RECORD, hint=hint))


def _existing(machine: Machine, name: str) -> Path:
    place = folder(machine) / check_name(name)
    if not place.is_dir():
        known = ", ".join(names(machine)) or "none"
        raise RaveError(
            f"machine {machine.name} has no snapshot {name!r} (it has: {known})",
            hint=f"rave vm snapshot create {machine.name} {name}",
            exit_code=ExitCode.USAGE,
        )
    return place


def _sweep(machine: Machine) -> None:
    """Remove what a killed command may have left."""
    for place in folder(machine).glob(".*"):
        if re.match(r"\.(new|old)-", place.name):
            with paths.refusing(place):
                shutil.rmtree(place)


def _mib(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size >> 20
    return 0
