"""Whose a data disk is: its label, which its guest writes into the first sector.

The guest's initrd mounts none that says to be another machine's (infra/debian/initrd/init.c). Here
it is looked at before, so that whoever starts the machine is told. Source of the layout: QEMU's
docs/interop/qcow2.txt, version 3.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, BinaryIO

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.machines.spec import Machine

LABEL = re.compile(rb"rave-data 1 ([0-9a-f]{32})\n")
SECTOR = 512

# Of a qcow2 file: a template's disk below a machine's is as deep as it gets.
DEEPEST = 3
_OFFSET = (1 << 56) - (1 << 9)
_COMPRESSED, _ZERO = 1 << 62, 1


def refuse_foreign(machine: Machine) -> None:
    """Refuse the data disk of another machine.

    Raises:
        RaveError: HOST if it is another's, or cannot be read.
    """
    if not machine.spec.has_data:
        return
    whose = of(machine.data_disk)
    if whose in (None, machine.spec.machine_id, machine.spec.data_of):
        return
    raise RaveError(
        f"{machine.data_disk} is the data disk of another machine ({whose}), not that of"
        f" {machine.name} ({machine.spec.machine_id})",
        hint=f"put the data disk of {machine.name} back; rave vm clone makes a machine with a copy"
        " of another's data",
        exit_code=ExitCode.HOST,
    )


def of(disk: Path) -> str | None:
    """Return the id of the machine whose a data disk says to be; None if no machine has had it.

    Raises:
        RaveError: HOST if it, or what it builds on, cannot be read or is no qcow2 file; or it says
            something else there.
    """
    sector = _first_sector(disk, DEEPEST)
    if not sector.strip(b"\0"):
        return None
    found = LABEL.match(sector)
    if found is None:
        raise _unreadable(disk, "it does not say whose it is")
    return found[1].decode()


def _first_sector(disk: Path, deepest: int) -> bytes:
    """Return the first bytes of what a qcow2 file holds; nothing if they were never written."""
    with paths.refusing(disk), disk.open("rb") as stream:
        header = stream.read(104)
        if len(header) < 104 or not header.startswith(b"QFI\xfb"):
            raise _unreadable(disk, "it is not a qcow2 file")
        below = _at(stream, _number(header[8:16]), min(_number(header[16:20]), 1023))
        l2 = _number(_at(stream, _number(header[40:48]), 8)) & _OFFSET
        entry = _number(_at(stream, l2, 8)) if l2 else 0
        if entry & _COMPRESSED or b"\0" in below:
            raise _unreadable(disk, "its beginning is not as any guest leaves it")
        if entry & _OFFSET and not entry & _ZERO:
            return _at(stream, entry & _OFFSET, SECTOR)
    if entry & _ZERO or not below:
        return b""
    if not deepest:
        raise _unreadable(disk, "too many files lie below it")
    return _first_sector(disk.parent / below.decode(errors="surrogateescape"), deepest - 1)


def _at(stream: BinaryIO, place: int, size: int) -> bytes:
    """Return bytes from a place in a file; fewer, or none, behind its end."""
    if place >= os.fstat(stream.fileno()).st_size:
        return b""
    stream.seek(place)
    return stream.read(size)


def _number(data: bytes) -> int:
    return int.from_bytes(data)


def _unreadable(disk: Path, why: str) -> RaveError:
    return RaveError(
        f"the data disk {disk} cannot be used: {why}",
        hint=f"put it back from a copy, or a snapshot; qemu-img info {disk}",
        exit_code=ExitCode.HOST,
    )
