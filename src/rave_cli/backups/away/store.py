"""What a place that keeps a copy can do, whichever it is, and what is wrong with one in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from rave_cli.backups.away.place import AwayPlace

# Seconds: to be heard, and until the next bytes.
CONNECTS, ANSWERS = 20.0, 60.0
# Bytes of one object: what the engine packs together has 16 MiB and one piece more (restic's
# design, "Pack Format").
LARGEST = 256 << 20


class Store(Protocol):
    """Objects by name. A name is given with what belongs to it or not at all: nobody sees a part.

    Each method raises RaveError: NOT_READY if nobody answers, HOST if the place does not take it,
    SECRETS if it does not let us.
    """

    def listing(self) -> dict[str, int]:
        """Return what is there: bytes by name. What nobody here has written is passed over."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object, over another of that name."""

    def get(self, name: str) -> bytes:
        """Return an object; MissingError if there is none."""

    def remove(self, name: str) -> None:
        """Take an object away, if it is there."""


@dataclass(frozen=True)
class ApartStore:
    """A place that is asked in a thread of its own: its library takes locks, and a signal that came
    in between would leave one taken, for which whoever closes the connection then waits.
    """

    store: Store

    def listing(self) -> dict[str, int]:
        """Return what is there."""
        return signals.apart(self.store.listing)

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        signals.apart(lambda: self.store.put(name, data))

    def get(self, name: str) -> bytes:
        """Return an object."""
        return signals.apart(lambda: self.store.get(name))

    def remove(self, name: str) -> None:
        """Take an object away."""
        signals.apart(lambda: self.store.remove(name))


class MissingError(RaveError):
    """There is no such object."""


def missing(place: AwayPlace, name: str) -> MissingError:
    """Return the error of an object that is not there."""
    return MissingError(
        f"there is no {name} in {place}", hint="rave backup copy", exit_code=ExitCode.VERIFICATION
    )


def unreachable(place: AwayPlace, why: str) -> RaveError:
    """Return the error of a place that does not answer, or no longer."""
    return RaveError(
        f"{place} does not answer: {why}",
        hint="what is there stays, and the same command goes on with it",
        exit_code=ExitCode.NOT_READY,
    )


def not_let_in(place: AwayPlace, why: str) -> RaveError:
    """Return the error of a place that does not take what it is shown."""
    return RaveError(
        f"{place} does not let us in: {why}",
        hint="rave secrets edit   (backup-copy: …)",
        exit_code=ExitCode.SECRETS,
    )


def not_taken(place: AwayPlace, name: str, why: str) -> RaveError:
    """Return the error of a place that takes nothing more."""
    return RaveError(
        f"{place} did not take {name}: {why}",
        hint="see whether there is room, and whether the folder may be written; what was there"
        " before is whole",
        exit_code=ExitCode.HOST,
    )
