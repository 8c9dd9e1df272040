"""How checks are declared, and the declarations of the guest's own.

The only module of the CLI that imports the guest's code (pyproject.toml holds that): its standard
library only modules say which checks the guest can carry out, from which arguments. The host asks
by this list; a guest does not choose the questions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_guest import registry
from rave_guest.check import Declaration, Subject, check, declared, place
from rave_guest.checks import catalog
from rave_guest.services import fail2ban

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Declaration", "Subject", "check", "declared", "place"]

# Kind of a catalog record's check -> kind in a request to the guest.
CATALOG: Mapping[str, str] = {
    "http": place(catalog.http),
    "tcp": place(catalog.tcp),
    "command": place(catalog.command),
}
UNITS = place(catalog.units)
RELEASE, FORGIVE = place(fail2ban.release), place(fail2ban.forgive)


def of_guest() -> tuple[Declaration, ...]:
    """Return every check that the guest's code declares: general ones, then those of services."""
    return tuple(found for module in registry.modules() for found in declared(module))
