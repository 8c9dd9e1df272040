"""What the services of the Debian base keep: each that has a directory says it, or why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED

SERVICES = Path(__file__).resolve().parents[3] / "infra/debian/services"
PLANS = [profile.bases["debian"] for profile in parse(BAKED.read_bytes()).profiles.values()]
KNOWN = {name: service for plan in PLANS for name, service in plan.services.items()}

# How a service's folder says that it has a directory of its own that outlives a boot.
DIRECTORY = re.compile(
    r"^StateDirectory=(?P<state>\S+)|(?P<path>/var/lib/(?!rave/)[\w/.-]+)", re.MULTILINE
)


def directories(service: str) -> set[str]:
    """Return the directories below /var/lib that a service's folder names."""
    found = set()
    for place in (SERVICES / service).rglob("*"):
        if place.is_file() and not place.name.endswith(".pyc"):
            text = place.read_text(errors="replace")
            found |= {m["path"] or f"/var/lib/{m['state']}" for m in DIRECTORY.finditer(text)}
    return found


def test_each_that_has_a_directory_says_what_is_kept_of_it_or_why_nothing_is() -> None:
    silent = {
        name: sorted(directories(name))
        for name, service in KNOWN.items()
        if directories(name) and service.state is None and not service.not_kept
    }
    assert silent == {}, "give its record in infra/catalog/services.nix `state` or `notKept`"


@pytest.mark.parametrize("name", [name for name, service in KNOWN.items() if service.state])
def test_what_is_kept_is_a_directory_that_its_folder_makes(name: str) -> None:
    service = KNOWN[name]
    assert service.not_kept is None
    assert service.state is not None
    assert service.state.path in directories(name)
    assert set(service.state.before) <= set(KNOWN)
