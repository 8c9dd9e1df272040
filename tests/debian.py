"""What the Debian base lays over its packages, rendered here as the image's build does it there."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from rave_cli.profiles.names import BAKED

__all__ = ["BASE", "generate", "part", "plan", "rendered"]

BASE = Path(__file__).resolve().parents[1] / "infra/debian"
sys.path.insert(0, str(BASE))

import generate  # noqa: E402


def part(service: str, name: str = "generate.py") -> Any:
    """Return a program of a service's folder as a module."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        # Bytecode beside a program of a rootfs would be a file of the guest.
        return generate.load(BASE / "services" / service / name)
    finally:
        sys.dont_write_bytecode = before


@cache
def plan(profile: str = "demo", *accepted: str) -> dict[str, Any]:
    """Return the plan of a profile on this base, as the guest has it, with what was accepted."""
    of = json.loads(BAKED.read_bytes())["profiles"][profile]
    found: dict[str, Any] = of["bases"]["debian"]
    if not accepted:
        return found
    more = next(one for one in of["accepted"] if tuple(one["accepted"]) == accepted)
    return {**found, **more, "services": {**found["services"], **more["services"]}}


@cache
def rendered(profile: str = "demo", *accepted: str) -> dict[str, str]:
    """Return the text of every file of ours in the guest by path, without a leading slash."""
    services = [BASE / "services" / name for name in plan(profile, *accepted)["services"]]
    copied = {
        str(path.relative_to(place)): path.read_text()
        for place in [folder / "rootfs" for folder in (BASE, *services)]
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }
    made = generate.configuration(plan(profile, *accepted)).files
    assert not copied.keys() & made.keys()
    return copied | made
