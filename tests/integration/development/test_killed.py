"""The services that take webhooks are killed in a real development machine, while webhooks arrive.

As tests/integration/platform/test_killed.py, but through nginx, and systemd starts each anew. When
each falls a seed gives; RAVE_DEVELOPMENT_ROUNDS says how often everything is done (1), each round
with a seed of its own from RAVE_DEVELOPMENT_SEED (1) on. What came of it stands in
docs/explanation/faults.md.

RAVE_DEVELOPMENT_MACHINE names a running machine of this home for it; else one is made.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.development.guest import Guest
from tests.integration.development.storm import storming

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(14_400),
    pytest.mark.skipif(not os.environ.get("RAVE_DEVELOPMENT"), reason="RAVE_DEVELOPMENT: not set"),
]

FIRST = int(os.environ.get("RAVE_DEVELOPMENT_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("RAVE_DEVELOPMENT_ROUNDS", "1")))

VICTIMS = ("webhook-dispatcher", "nats-server")
# How often each falls in a round, and within how many seconds of the last one's return.
DELIVERIES, DELIVERED = 10, 4.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_webhook_that_was_acknowledged_is_in_the_stream_once(machine: Machine, seed: int) -> None:
    with storming(Guest(machine), seed) as storm:
        for victim, _ in itertools.product(VICTIMS, range(DELIVERIES)):
            with storm.over(victim, within=DELIVERED):
                pass
