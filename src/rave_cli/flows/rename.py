"""Give a machine another name; its backups, their schedule and what became of them go along."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.backups import ledger, schedule
from rave_cli.machines import changes

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


def rename(old: str, new: str) -> Machine:
    """Give a stopped machine another name.

    Backups are known by the instance that they are of, so they have its name of today.

    Raises:
        RaveError: as `changes.rename`; HOST if schedule or ledger cannot be read or written.
    """
    planned = schedule.load().of(old)
    with signals.held():
        moved = changes.rename(old, new)
        if planned is not None:
            others = schedule.load().without(old)
            schedule.save(others.with_(replace(planned, machine=new)))
        place = ledger.place(old)
        with paths.refusing(place):
            if place.exists():
                place.rename(ledger.place(new))
    return moved
