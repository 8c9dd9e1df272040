"""Restores into new machines that have not ended: what the next command goes on with.

It is written before the machine is made, with the instance id that the machine will have: so a
machine of that name that somebody else made is never taken for the one that was begun.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.records import RecordFormat, amend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class PendingRestore:
    """A restore that has begun.

    Attributes:
        to: the new machine.
        machine: the machine that the backup is of.
        backup: the backup, by its name.
        only: the services that are asked for; none for all.
        instance: the instance id of the new machine.
        since: seconds since the epoch when it began.
        at: the moment that PostgreSQL is to be of (UTC); None for the backup's own.
        put: whether the machine has the backup. It is not put there twice: somebody may work with
            the machine by then.
    """

    to: str
    machine: str
    backup: str
    only: tuple[str, ...]
    instance: str
    since: float
    put: bool
    at: str | None

    @property
    def command(self) -> str:
        """The command that goes on with it."""
        more = f" --at {self.at}" if self.at else ""
        more += "".join(f" --only {name}" for name in self.only)
        return f"rave backup restore {self.machine} --from {self.backup} --to {self.to}{more}"


PENDING = RecordFormat(
    title="the record of a restore",
    shape=PendingRestore,
    version=2,
    upgrades={1: partial(amend, place="at", value=None)},
)


def folder() -> Path:
    """Return the directory of what has not ended."""
    return paths.state_dir() / "restores"


def place(to: str) -> Path:
    """Return where the record of a restore into a machine is."""
    return folder() / f"{to}.json"


@contextmanager
def alone(to: str) -> Iterator[None]:
    """Keep other commands from restoring into the same machine meanwhile.

    Raises:
        RaveError: HOST if one does.
    """
    with paths.lock(_lock(to), busy=f"another rave restores into {to}"):
        yield


def busy(to: str) -> bool:
    """Return whether a command restores into a machine now."""
    try:
        with alone(to):
            return False
    except RaveError:
        return True


def _lock(to: str) -> Path:
    return folder() / f".{to}.lock"


def find(to: str) -> PendingRestore | None:
    """Return what has not ended of a restore into a machine.

    Raises:
        RaveError: HOST if its record is damaged or of a newer rave.
    """
    found = place(to)
    with paths.refusing(found):
        there = found.exists()
    if not there:
        return None
    return PENDING.read(found, hint=f"rave vm status {to}; then move {found} out of the way")


def left() -> list[PendingRestore]:
    """Return all that have not ended.

    Raises:
        RaveError: as `find`.
    """
    try:
        names = sorted(entry.stem for entry in folder().glob("*.json"))
    except OSError:
        return []
    return [found for found in map(find, names) if found is not None]


def note(restore: PendingRestore) -> None:
    """Note how far a restore is.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    PENDING.write(place(restore.to), restore, mode=0o600)


def end(to: str) -> None:
    """Note that a restore has ended.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    with paths.refusing(place(to)):
        place(to).unlink(missing_ok=True)
        _lock(to).unlink(missing_ok=True)
