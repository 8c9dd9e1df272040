"""What a killed update, rollback or migration left of a machine: completed, or taken back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rave_cli.flows.events import Event
from rave_cli.machines import generations, lifecycle, store, underway

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.flows.events import OnEvent
    from rave_cli.machines.spec import Machine


def settle(machine: Machine, *, on_event: OnEvent) -> Machine:
    """Put a machine in order, if the command that changed its system was killed.

    Raises:
        RaveError: HOST if a command is still at it, or it cannot be put in order; what is there
            stays, and the same can be tried again.
    """
    if underway.read(machine) is None:
        return machine
    with underway.alone(machine.name):
        return settle_alone(machine.name, on_event=on_event)


def settle_alone(name: str, *, on_event: OnEvent) -> Machine:
    """Put a machine in order, for whoever is alone with it; returns it as it is then.

    Raises:
        RaveError: as `settle`.
    """
    machine = store.load(name)
    change = underway.read(machine)
    if change is None:
        return machine
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(change.since))
    text = (
        f"{change.told} of machine {name}, begun at {since}, was broken off"
        f" {underway.DOING[change.step]}"
    )
    on_event(Event("warning", "update", text))
    if change.step in ("stopping", "trying"):
        # What runs is about to end, or is the system that has not proved itself.
        lifecycle.stop(machine)
    machine, aside = generations.settle(machine, change)
    on_event(Event("note", "update", _outcome(machine, change, aside)))
    return machine


def _outcome(machine: Machine, change: underway.Change, aside: Path | None) -> str:
    if change.step == "keeping":
        return f"it is completed: rave vm rollback {machine.name} takes it back"
    if change.step in ("preparing", "stopping"):
        return f"machine {machine.name} is as it was"
    if change.kind == "rollback":
        return f"it is completed; {told_aside(machine, aside)}"
    told = f"; {told_aside(machine, aside)}" if aside is not None else ""
    return f"machine {machine.name} has the system and the data of before again{told}"


def told_aside(machine: Machine, aside: Path | None) -> str:
    """Return where what was written since is, and how it comes back."""
    return (
        f"what was written since is in {aside}: rave vm rollback {machine.name} --undo brings it"
        " back"
    )
