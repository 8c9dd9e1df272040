"""What the recovery phase lets somebody do: mark, back up, restore elsewhere, compare, clean up.

The steps themselves are journeys (flows/recovery.py), of which a check knows what they return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Marks:
    """What is marked in a service: how many lines, and the sum of them."""

    count: int
    sha256: str


@dataclass(frozen=True)
class MarkedBackup:
    """A backup of what was marked.

    Attributes:
        name: as `rave backup list` has it.
        size: bytes of what the services keep.
        seconds: how long it took.
        rpo: seconds from its moment until it was whole: what a machine is told in them is lost if
            the host is lost right then, however often it is backed up.
    """

    name: str
    size: int
    seconds: float
    rpo: float


@dataclass(frozen=True)
class RecoveredCopy:
    """A second machine that was made of it, all services of which are healthy: seconds from the
    beginning to there, those of each step, and what is marked in it.
    """

    rto: float
    steps: Mapping[str, float]
    marks: Mapping[str, Marks]


class Recovers(Protocol):
    """The steps, in their order; each raises a RaveError if it fails."""

    def mark(self) -> Mapping[str, Marks]:
        """Put a mark into each service that keeps something, and return them as they are then."""
        ...

    def back_up(self) -> MarkedBackup:
        """Back the machine up."""
        ...

    def restore(self) -> RecoveredCopy:
        """Make a second machine of that."""
        ...

    def clean(self) -> None:
        """Take the marks, the backup and the second machine away, as far as there are any."""
        ...
