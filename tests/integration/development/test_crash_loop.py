"""A service of a real development machine ends again and again: told by name, with the command that
helps, while the others stay well.

RAVE_DEVELOPMENT_MACHINE names a running machine of this home for it; else one is made.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines import status
from tests.integration.development import ASKED_FOR
from tests.integration.development.guest import Guest, eventually
from tests.integration.development.storm import tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(7200),
]

SERVICE, SETTINGS = "docker-registry", "/etc/rave/docker-registry/config.yml"
UNIT = f"{SERVICE}.service"
BREAK = f"cp -p {SETTINGS} {SETTINGS}.whole && echo 'version: none' > {SETTINGS}"
MEND = f"mv {SETTINGS}.whole {SETTINGS}"
SEVERAL = 3  # starts


def said(machine: Machine) -> tuple[str, str]:
    """Return what `rave vm status` says."""
    found = status.of(machine)
    return found.state, found.detail


def well(machine: Machine) -> bool:
    return said(machine) == ("running", "")


def others(guest: Guest) -> dict[str, str]:
    """Return the states of the other services, as the machine tells them."""
    told = json.loads(guest.run("cat", "/run/rave/status.json"))["services"]
    return {name: entry["state"] for name, entry in told.items() if name != SERVICE}


def started(guest: Guest, unit: str = UNIT) -> int:
    """Return how often systemd has started a unit anew."""
    return int(guest.run("systemctl", "show", "-P", "NRestarts", unit))


@pytest.fixture
def guest(machine: Machine) -> Iterator[Guest]:
    """Have the machine well before, and mended afterwards."""
    found = Guest(machine)
    eventually(lambda: well(machine))
    yield found
    found.run("sh", "-c", f"test ! -e {SETTINGS}.whole || {{ {MEND}; }}")
    found.run("systemctl", "restart", UNIT)
    eventually(lambda: well(machine))


def test_a_service_that_crashes_in_a_loop_is_named_and_comes_back_by_itself(
    machine: Machine, guest: Guest
) -> None:
    before = others(guest)
    guest.run("sh", "-c", BREAK)
    guest.run("systemctl", "kill", "--signal=KILL", UNIT)
    began = time.monotonic()
    eventually(lambda: said(machine)[0] == "failed")
    tell(f"told after {time.monotonic() - began:.0f} s: {said(machine)[1]}")
    eventually(lambda: started(guest) >= SEVERAL)
    # It stays so for as long as it is so, and nobody gives it up.
    for _ in range(SEVERAL):
        enough = started(guest) + 1
        eventually(lambda enough=enough: started(guest) >= enough)  # type: ignore[misc]
        state, detail = said(machine)
        assert (state, UNIT in detail) == ("failed", True), detail
        assert f"journalctl -b -u {UNIT}" in detail
        assert others(guest) == before
    guest.run("sh", "-c", MEND)
    began = time.monotonic()
    eventually(lambda: well(machine))
    tell(f"well {time.monotonic() - began:.0f} s after it was mended")
