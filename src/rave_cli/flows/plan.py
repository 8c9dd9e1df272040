"""Which plan a machine goes by: its own, whatever today's checkout makes of its profile."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.flows.events import Event
from rave_cli.images import carried
from rave_cli.images.build import existing_image
from rave_cli.machines import store

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.flows.events import OnEvent
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan


def of(machine: Machine, today: Callable[[], Plan], *, on_event: OnEvent) -> Plan:
    """Return the plan that a machine was made from.

    Rave 0.1.0 gave its machines none. Such a machine goes by the plan of its image, if that has got
    one meanwhile, and else by today's, which is told.

    Args:
        machine: the machine.
        today: makes the plan that the catalog has for its profile, base and mode now.
        on_event: told if it has to do.

    Raises:
        RaveError: HOST if the machine's plan is damaged or of a newer rave; as `today` does.
    """
    own = store.plan(machine)
    if own is not None:
        return own
    plan = today()
    with suppress(RaveError):
        image = existing_image(plan)
        same = image is not None and image.store_path == machine.spec.image.store_path
        if same and image is not None and image.plan is not None:
            return carried.read(image.plan).plan
    text = f"machine {machine.name} does not carry its plan, as older ones do not: taking today's"
    on_event(Event("note", "plan", text))
    return plan
