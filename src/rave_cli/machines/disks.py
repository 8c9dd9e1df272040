"""The disks of a machine: made, grown, and its system's made anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths, process, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.spec import machines_dir

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.machines.spec import Machine


@dataclass(frozen=True)
class Disks:
    """The disks of a machine or of a template: of its system and, if it has one, of its data."""

    system: Path
    data: Path | None = None

    @classmethod
    def of(cls, machine: Machine) -> Disks:
        """Return a machine's disks."""
        return cls(machine.disk, machine.data_disk if machine.spec.has_data else None)

    @classmethod
    def below(cls, machine: Machine) -> Disks | None:
        """Return the disks of the template that a machine was made from, if it was."""
        if not machine.base_disk.exists():
            return None
        return cls(machine.base_disk, machine.base_data if machine.spec.has_data else None)


def make_disk(disk: Path, size: str, *, below: Path | str | None = None) -> None:
    """Make a disk of a machine, which is empty, or what is in the one below it.

    Raises:
        RaveError: HOST if it cannot be made.
    """
    words = () if below is None else ("-b", str(below), "-F", "qcow2")
    hint = f"df -h {machines_dir()}; rave vm list shows machines you may delete"
    _qemu_img(("create", *words, str(disk), size), f"the disk {disk} cannot be made", hint)


def _qemu_img(words: tuple[str, ...], fault: str, hint: str) -> None:
    """Let qemu-img do something to a qcow2 file; `fault` is what is told if it does not."""
    done = process.run(("qemu-img", words[0], "-q", "-f", "qcow2", *words[1:]), timeout=60)
    if not done.ok:
        raise RaveError(
            f"{fault}: {' '.join(done.tail(1))}",
            hint=hint,
            exit_code=ExitCode.HOST,
            detail=done.tail(),
        )


def virtual_size(image: Path) -> int:
    """Return the size in bytes of the disk that a qcow2 file holds.

    The header is of QEMU's docs/interop/qcow2.txt: magic at 0, virtual size at 24, big-endian.

    Raises:
        RaveError: HOST if the file cannot be read or is no qcow2 file.
    """
    with paths.refusing(image), image.open("rb") as stream:
        header = stream.read(32)
    if len(header) < 32 or not header.startswith(b"QFI\xfb"):
        raise RaveError(
            f"{image} is not a qcow2 file",
            hint="rave vm build-image",
            exit_code=ExitCode.HOST,
        )
    return int.from_bytes(header[24:32])


def begin_system(machine: Machine) -> None:
    """Make the system's disk: what is in the template's or the image's.

    Raises:
        RaveError: USAGE if the machine's disk is to be smaller than the image's; HOST if it cannot
            be made.
    """
    image = machine.spec.image
    needed = virtual_size(image.data or image.qcow2)
    if machine.spec.disk_gib << 30 < needed:
        least = -(-needed >> 30)
        raise RaveError(
            f"--disk {machine.spec.disk_gib} is too little: the image's own disk has {least} GiB",
            hint=f"--disk {least} or more",
            exit_code=ExitCode.USAGE,
        )
    below = machine.base_disk.name if machine.base_disk.exists() else image.qcow2
    make_disk(machine.disk, _system_size(machine), below=below)


def _system_size(machine: Machine) -> str:
    """Return the size of the system's disk: as large as the machine's if that is all it has."""
    spec = machine.spec
    return str(virtual_size(spec.image.qcow2)) if spec.has_data else f"{spec.disk_gib}G"


def begin_data(machine: Machine) -> None:
    """Make the data disk, which depends on no image: a copy of the image's, or what is in the
    template's, which the machine keeps. One of an image without has none.

    Raises:
        RaveError: HOST if it cannot be made.
    """
    first, size = machine.spec.image.data, f"{machine.spec.disk_gib}G"
    if first is None:
        return
    if machine.base_data.exists():
        make_disk(machine.data_disk, size, below=machine.base_data.name)
        return
    copy_first(first, machine.data_disk, machine.spec.disk_gib)


def copy_first(first: Path, target: Path, gib: int) -> None:
    """Make a data disk of `gib` GiB, or as large as the image's: a copy of that.

    Raises:
        RaveError: HOST if it cannot be made.
    """
    paths.copy_private(first, target)
    if gib << 30 > virtual_size(first):
        grow_disk(target, f"{gib}G")


def grow_disk(disk: Path, size: str) -> None:
    """Grow a disk of a machine that does not run.

    Raises:
        RaveError: HOST if it cannot be grown.
    """
    hint = f"df -h {disk.parent}; qemu-img info {disk}"
    _qemu_img(("resize", str(disk), size), f"the disk {disk} cannot be grown", hint)


def renew_system(machine: Machine) -> None:
    """Let a stopped machine's system be the image's again: what was written to its disk since is
    lost, but not what is on the data disk. The caller holds the lock.

    Raises:
        RaveError: USAGE if it has no data disk; HOST if the new disk cannot be made: then the old
            one is there.
    """
    if not machine.spec.has_data:
        raise RaveError(
            f"machine {machine.name} has no data disk: what its services keep is on the disk of its"
            " system, and would be lost",
            hint=f"rave vm migrate {machine.name} gives it one",
            exit_code=ExitCode.USAGE,
        )
    draft = machine.disk.with_name(".disk-fresh.qcow2")
    with paths.refusing(draft):
        draft.unlink(missing_ok=True)
    try:
        make_disk(draft, _system_size(machine), below=machine.spec.image.qcow2)
        with signals.held(), paths.refusing(machine.disk):
            draft.rename(machine.disk)
            paths.sync_dir(machine.directory)
    finally:
        draft.unlink(missing_ok=True)
