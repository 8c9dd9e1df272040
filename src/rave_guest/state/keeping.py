"""Sends what the services keep, each as it says it is consistent, in an order that loses nothing.

A service whose record says `before` is copied before those it hands things over to: what it has
told them after that is told again, and known by its id, instead of being lost.
"""

from __future__ import annotations

import os
import shutil

from rave_guest import registry
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.state import wire

    Plan = Mapping[str, Any]

NICENESS = 10  # what runs in the machine goes first
INSTANCE = "/run/rave/instance-id"
SPOOL = "/var/lib/rave/state"  # where a service's copy lies while it is sent


def kept(plan: Plan) -> dict[str, Mapping[str, Any]]:
    """Return what is kept of each service of a plan that keeps anything, as its record says."""
    services = plan["services"].items()
    return {name: record["state"] for name, record in services if record.get("state")}


def order(states: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the services in the order in which they are copied.

    Raises:
        ValueError: two of them want to be before each other.
    """
    found: list[str] = []
    left = sorted(states)
    while left:
        late = {after for name in left for after in states[name]["before"]}
        ready = [name for name in left if name not in late]
        if not ready:
            raise ValueError(f"each of {', '.join(left)} is to be before another")
        found += ready
        left = [name for name in left if name in late]
    return found


def send(plan: Plan, out: wire.Writer, *, instance: str, spool: str = SPOOL) -> None:
    """Send what is kept of all services.

    Raises:
        Refused: a service's state cannot be had; the stream has no end then.
    """
    states = kept(plan)
    out.begin(instance)
    for name in order(states):
        if not os.path.isdir(states[name]["path"]):
            # It has not run yet: then it keeps nothing.
            continue
        folder = f"{spool}/{name}"
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder, mode=0o700)
        try:
            module: Any = registry.service(name)
            for item, pieces in module.keep(plan, states[name]["path"], folder):
                out.item(name, item, pieces)
        except OSError as error:
            raise Refused("provider", f"what {name} keeps cannot be read: {error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    out.whole()


def about(plan: Plan) -> dict[str, Any]:
    """Return what there is to keep: services with the bytes they take, and the room there is."""
    states = kept(plan)
    # Nothing of rave's own may be there yet; where it is, it may be on another disk.
    ours = os.path.dirname(SPOOL)
    room = os.statvfs(ours if os.path.isdir(ours) else os.path.dirname(ours))
    return {
        "services": {name: _size(states[name]["path"]) for name in order(states)},
        "freeBytes": room.f_bavail * room.f_frsize,
        # Whether it sends PostgreSQL's log, and recovers to a time with it (log.py).
        "log": "postgresql" in states,
    }


def _size(path: str) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        total += sum(_blocks(f"{folder}/{name}") for name in files)
    return total


def _blocks(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
