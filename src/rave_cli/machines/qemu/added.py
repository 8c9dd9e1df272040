"""Which forwards an operator added to a machine: those are not taken back unasked.

There are two lists. That of a run is worth what QEMU's own table confirms, and goes with the run.
That of the machine has what is to be added again whenever it starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rave_cli.machines.spec import Machine


@dataclass(frozen=True, order=True)
class HostForward:
    """A TCP port of the host that leads to one of the guest's."""

    address: str
    host: int
    guest: int

    def __str__(self) -> str:
        return f"{self.address}:{self.host} -> {self.guest}"


@dataclass(frozen=True)
class AddedForwards:
    """The content of forwards.json."""

    forwards: tuple[HostForward, ...]


ADDED = RecordFormat(title="the list of added forwards", shape=AddedForwards, version=1)
KEPT = RecordFormat(title="the list of kept forwards", shape=AddedForwards, version=1)


def place(machine: Machine) -> Path:
    """Return where the list is."""
    return machine.runtime / "forwards.json"


def read(machine: Machine) -> frozenset[HostForward]:
    """Return what was added since the machine started.

    Raises:
        RaveError: HOST if the list is damaged or of a newer rave.
    """
    file = place(machine)
    if not file.exists():
        return frozenset()
    hint = f"rm {file}   (they are then no longer told from the machine's own)"
    return frozenset(ADDED.read(file, hint=hint).forwards)


def kept_place(machine: Machine) -> Path:
    """Return where the list of the machine is."""
    return machine.directory / "forwards.json"


def kept(machine: Machine) -> frozenset[HostForward]:
    """Return what is added whenever the machine starts.

    Raises:
        RaveError: HOST if the list is damaged or of a newer rave.
    """
    file = kept_place(machine)
    if not file.exists():
        return frozenset()
    hint = f"mv {file} {file}.bad   (then add them again: rave vm forward add --keep)"
    return frozenset(KEPT.read(file, hint=hint).forwards)


def keep(machine: Machine, forwards: Iterable[HostForward]) -> None:
    """Have these added whenever the machine starts.

    Raises:
        RaveError: HOST if that cannot be written.
    """
    KEPT.write(kept_place(machine), AddedForwards(forwards=tuple(sorted(forwards))), mode=0o600)


def write(machine: Machine, forwards: Iterable[HostForward]) -> None:
    """Keep what was added.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    ADDED.write(place(machine), AddedForwards(forwards=tuple(sorted(forwards))), mode=0o600)
