"""The plan this guest was made from: what its base makes of its profile."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PLACE = "/usr/lib/rave/plan.json"


def own() -> dict[str, Any]:
    """Return this guest's plan."""
    import json

    with open(PLACE, encoding="utf-8") as stream:
        found: dict[str, Any] = json.load(stream)
    return found


def port(service: Mapping[str, Any], name: str) -> int:
    """Return the number of a port that a service's record names.

    Raises:
        KeyError: it names no such port.
    """
    for entry in service["ports"]:
        if entry["name"] == name:
            return int(entry["port"])
    raise KeyError(name)


def port_of(plan: Mapping[str, Any], service: str, name: str) -> int:
    """Return the number of a port of one of the plan's services.

    Raises:
        KeyError: there is no such service or port.
    """
    return port(plan["services"][service], name)


def secret(plan: Mapping[str, Any], name: str) -> str:
    """Return where a secret of the plan lies.

    Raises:
        KeyError: the plan has none of that name.
    """
    return str(plan["secrets"][name]["path"])
