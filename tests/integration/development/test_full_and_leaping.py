"""The disk of a real development machine is full, and its clock leaps, while webhooks arrive.

RAVE_DEVELOPMENT_MACHINE names a running machine of this home for it; else one is made.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines import status
from tests.integration.development import ASKED_FOR
from tests.integration.development.guest import Guest, eventually
from tests.integration.development.storm import Storm, storming, tell

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(7200),
]

# Takes all that is left for whoever is not root, and gives it back.
FILL = 'fallocate -l "$(df --output=avail -B1 /data | tail -1)" /data/rave-faults'
FREE = "rm /data/rave-faults"
SEVERAL = 3  # webhooks
# Bytes of one: what the dispatcher's file has room for within itself is soon used up.
LARGE = 200_000
HOUR = 3600


def at_rest(machine: Machine) -> bool:
    """Return whether all of its services are healthy."""
    found = status.of(machine)
    return (found.state, found.detail) == ("running", "")


def several(storm: Storm, status: str) -> None:
    """Wait until some more webhooks are answered with a status."""
    enough = storm.hooks.answers[status] + SEVERAL
    eventually(lambda: storm.hooks.answers[status] >= enough)


def test_what_a_full_disk_takes_is_not_lost_and_what_it_refuses_is_told(machine: Machine) -> None:
    guest = Guest(machine)
    with storming(guest) as storm:
        several(storm, "202")
        guest.run("sh", "-c", FILL)
        storm.hooks.padding = LARGE
        began = time.monotonic()
        try:
            several(storm, "503")
        finally:
            guest.run("sh", "-c", FREE)
            storm.hooks.padding = 0
        tell(f"refused after {time.monotonic() - began:.0f} s")
        several(storm, "202")
    eventually(lambda: at_rest(machine))
    # What it cannot store it says. The server of NATS, which hangs since then, was started anew, or
    # not all would be handed over.
    assert set(storm.hooks.answers) <= {"200", "202", "503"}


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_clock_that_leaps_loses_and_doubles_nothing(machine: Machine, seconds: int) -> None:
    guest = Guest(machine)
    with storming(guest) as storm:
        several(storm, "202")
        # It is set right by the host's clock within seconds (rave_guest/clock.py).
        for by in (seconds, -seconds):
            guest.run("date", "--set", f"{by:+d} seconds")
            several(storm, "202")
    assert set(storm.hooks.answers) <= {"200", "202"}
