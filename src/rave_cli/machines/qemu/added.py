"""Which forwards an operator added to a running machine: those are not taken back unasked.

The list is worth what QEMU's own table confirms. It goes with the run it was made in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

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


class AddedForwards(BaseModel):
    """The content of forwards.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    forwards: tuple[HostForward, ...]


ADDED = RecordFormat(title="the list of added forwards", shape=AddedForwards, version=1)


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


def write(machine: Machine, forwards: Iterable[HostForward]) -> None:
    """Keep what was added.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    ADDED.write(place(machine), AddedForwards(forwards=tuple(sorted(forwards))), mode=0o600)
