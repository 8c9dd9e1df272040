"""The memory of a suspended machine beside its disk: whether it is whole and still fits.

It is made whole or not at all, and used once: before the guest goes on it is put aside, so that no
memory is ever brought back over a disk that has changed since.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu.argv import without_memory_file
from rave_cli.machines.qemu.program import Kind  # noqa: TC001 - the record reads the annotations
from rave_cli.records import RecordFormat, amend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.machines.spec import Machine

RECORD = "suspended.json"
MEMORY = "memory"

# What a QEMU gets that is to read a saved memory, beside its usual command line.
INCOMING = ("-incoming", "defer")


@dataclass(frozen=True)
class SavedState:
    """What a saved memory belongs to: nothing but the same can go on with it.

    Attributes:
        qemu: version of the QEMU that wrote it.
        accelerator: which it ran with.
        cpu: the host's processor, where the guest saw that.
        command: digest of QEMU's command line, without the places of files (`shape`).
        disk: size in bytes and time of the last change, in nanoseconds, of the machine's disk, and
        data: those of its data disk, if it has one.
        size: bytes of the memory file.
        since: seconds since the epoch.
    """

    qemu: str
    accelerator: Kind
    cpu: str
    command: str
    disk: tuple[int, int]
    size: int
    since: float
    data: tuple[int, int] | None = None


SAVED = RecordFormat(
    title="the record of a suspended machine",
    shape=SavedState,
    version=2,
    upgrades={1: lambda document: amend(document, "data", None)},
)


def read(machine: Machine) -> SavedState | None:
    """Return what a machine was suspended with; None if it is not suspended.

    Raises:
        RaveError: HOST if the record is damaged or of a newer rave.
    """
    if not machine.suspended.is_dir():
        return None
    return SAVED.read(machine.suspended / RECORD, hint=f"rave vm resume {machine.name}")


def draft(machine: Machine) -> Path:
    """Return an empty directory for a state that is being saved; a broken one is removed.

    Raises:
        RaveError: HOST if it cannot be made.
    """
    place = _beside(machine, "new")
    shutil.rmtree(place, ignore_errors=True)
    return paths.private_dir(place)


def keep(machine: Machine, state: SavedState) -> None:
    """Put a draft in force: from here on the machine is suspended.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    place = _beside(machine, "new")
    SAVED.write(place / RECORD, state, mode=0o600)
    with paths.refusing(machine.suspended):
        place.rename(machine.suspended)
        paths.sync_dir(machine.directory)


def put_aside(machine: Machine, *, but_draft: bool = False) -> None:
    """Make sure that a saved state is not used (again): the disk goes its own way from here.

    Args:
        machine: the machine.
        but_draft: leave a draft that is about to take its place.

    Raises:
        RaveError: HOST if that cannot be done.
    """
    used = _beside(machine, "used")
    with signals.held(), paths.refusing(machine.suspended):
        shutil.rmtree(used, ignore_errors=True)
        with suppress(FileNotFoundError):
            machine.suspended.rename(used)
            paths.sync_dir(machine.directory)
        for left in (used, *(() if but_draft else (_beside(machine, "new"),))):
            shutil.rmtree(left, ignore_errors=True)


def _beside(machine: Machine, what: str) -> Path:
    return machine.suspended.with_name(f".suspended-{what}")


def shape(argv: Sequence[str], machine: Machine) -> str:
    """Return a digest of QEMU's command line that does not depend on where the machine's files lie
    and who asks.
    """
    # What runs QEMU, and a cap around it, comes before its first option.
    options = _without_certificate(without_memory_file(argv[argv.index("-name") :]))
    text = "\0".join(options).removesuffix("\0" + "\0".join(INCOMING))
    if (pages := machine.spec.pages) is not None and pages not in machine.spec.forwards:
        # It may have had to go on with another one, which is no device of the guest's.
        text = text.replace(f":{pages.host}-:{pages.guest}", f":0-:{pages.guest}")
    for place, name in ((machine.runtime, "RUNTIME"), (machine.directory, "MACHINE")):
        text = text.replace(os.fspath(place).replace(",", ",,"), name)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _without_certificate(options: Sequence[str]) -> list[str]:
    """Return a command line without the blobs of a machine's certificate. A guest reads them when
    it boots, so they are no part of what goes on; a QEMU of an older rave was given none.
    """
    blobs = {at for at, word in enumerate(options) if "/rave.tls-" in word}
    return [word for at, word in enumerate(options) if not {at, at + 1} & blobs]


def with_disks(machine: Machine, state: SavedState) -> SavedState:
    """Return a state with what a machine's disks are now.

    Raises:
        RaveError: HOST if they cannot be looked at.
    """
    stamps = [_stamp(disk) for disk in machine.disks]
    return replace(state, disk=stamps[0], data=stamps[1] if machine.spec.has_data else None)


def _stamp(disk: Path) -> tuple[int, int]:
    """Return size and time of the last change of a disk."""
    with paths.refusing(disk):
        found = disk.stat()
    return found.st_size, found.st_mtime_ns


def processor(kind: Kind, listing: Path = Path("/proc/cpuinfo")) -> str:
    """Return a digest of the host's processor where the guest sees it; under TCG it sees none of
    it.
    """
    if kind == "tcg":
        return ""
    first = listing.read_text(errors="replace").partition("\n\n")[0]
    told = [line for line in first.splitlines() if line.startswith(("model name", "flags"))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def refuse_misfit(machine: Machine, state: SavedState, now: SavedState) -> None:
    """Refuse to go on with a state that belongs to something else than what would go on with it.

    Raises:
        RaveError: HOST that names every difference.
    """
    told = {
        "qemu": f"QEMU was {state.qemu}, and is {now.qemu}",
        "accelerator": f"the accelerator was {state.accelerator}, and is {now.accelerator}",
        "cpu": "the host has another processor",
        "command": "QEMU's command line is another one (an update of rave, or a change of the"
        " machine)",
        "disk": "its disk was changed meanwhile",
        "data": "its data disk was changed meanwhile",
        "size": "the file of its memory is not whole",
    }
    wrong = [told[name] for name in told if getattr(state, name) != getattr(now, name)]
    if wrong:
        raise misfit(machine, "; ".join(wrong))


def misfit(machine: Machine, why: str) -> RaveError:
    """Return the error of a state that cannot be used, with the way out."""
    return RaveError(
        f"machine {machine.name} cannot go on where it was suspended: {why}",
        hint=f"put that back as it was; rave vm resume {machine.name} --help tells the way without",
        exit_code=ExitCode.HOST,
        detail=(f"to start it anew, as after a power cut: rave vm resume {machine.name} --cold",),
    )


def memory_size(machine: Machine) -> int:
    """Return the bytes of a suspended machine's memory file; 0 if it is gone."""
    with suppress(OSError):
        return (machine.suspended / MEMORY).stat().st_size
    return 0
