"""Services that take a new secret while they run: nobody who uses them waits for a restart.

A service's module may have a function `renew(plan, secret, value, old)`, with which the running
service takes the new value, beside the one before where it can know two; it returns what makes it
forget that one, which is called when whoever uses it has the new one. A service that cannot take it
so, or not now, is restarted. If anything fails later, all are restarted with what was before.
"""

from __future__ import annotations

from contextlib import suppress

from rave_guest import registry
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from rave_guest.secrets.proofs import SecretChange

    Forget = Callable[[], None]


def take(
    plan: Mapping[str, Any], changed: Iterable[str], change: SecretChange
) -> dict[str, Forget]:
    """Let running services take what changed; return of whose secrets they did, with what makes
    them forget the value before.
    """
    taken: dict[str, Forget] = {}
    # On NixOS what a service reads is rendered by others, who restart it then.
    for name in changed if plan["base"] == "debian" else ():
        value, old = change.of(name)
        service = plan["secrets"][name].get("proof")
        if old is None or service not in plan["services"]:
            continue
        renew = getattr(registry.service(service), "renew", None)
        if renew is not None:
            with suppress(Refused, OSError, ValueError):
                taken[name] = renew(plan, name, value, old)
    return taken


def forget(taken: Mapping[str, Forget]) -> None:
    """Let services forget what was before.

    Raises:
        Refused: one does not.
    """
    for ended in taken.values():
        ended()


def units(plan: Mapping[str, Any], names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return what is to be restarted for these secrets, in the catalog's order: of those that were
    taken not the service that took them.
    """
    secrets, services = plan["secrets"], plan["services"]
    found: dict[str, None] = {}
    for name in names:
        own = services[secrets[name]["proof"]]["units"] if name in taken else ()
        found |= dict.fromkeys(unit for unit in secrets[name]["refresh"] if unit not in own)
    return list(found)
