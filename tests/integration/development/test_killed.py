"""The services of a real development machine are killed while something goes on in it.

As tests/integration/platform/test_flow_killed.py, but with the real chat, forge and database, and
systemd, which starts each anew. Webhooks arrive all the while. Which service it is, and when it
falls, a seed gives; RAVE_DEVELOPMENT_ROUNDS says how often everything is done (1), each round with
a seed of its own from RAVE_DEVELOPMENT_SEED (1) on. What came of which stands in
docs/explanation/faults.md.

RAVE_DEVELOPMENT_MACHINE names a running machine of this home for it; else one is made.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.development import ASKED_FOR
from tests.integration.development.guest import Guest
from tests.integration.development.storm import Project, commanding_in, drawn, storming, tell

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(14_400),
]

FIRST = int(os.environ.get("RAVE_DEVELOPMENT_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("RAVE_DEVELOPMENT_ROUNDS", "1")))

AGENT = "rave-agent@backend-architect"
# On the way of a command to its answer, and of the webhooks meanwhile; of a project to the forge.
# The homeserver starts for minutes on a busy host, so it falls less often.
ANSWER = ("chat-bridge", "postgresql", "nats-server", "webhook-dispatcher")
SLOW = "matrix-synapse"
WORK = ("chat-bridge", AGENT, "nats-server", "postgresql", "pagure", "pagure-worker")
EVERY = ("webhook-dispatcher", SLOW, *WORK)
STEPS = ("said", "answered", "begun", "completion said", "approval said")

# In a round: journeys, and within how many seconds of their beginning the kills fall.
COMMANDS, SLOW_COMMANDS, ANSWERED = 4, 1, 2.5
DELIVERIES, DELIVERED = 10, 4.0
PROJECTS, MADE = 3, 15.0
SHORTLY = 3.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_command_has_one_answer(machine: Machine, seed: int) -> None:
    with commanding_in(machine, seed) as (storm, said):
        quick = drawn(storm.draw, ANSWER, 3, COMMANDS)
        slow = [(SLOW, *one) for one in drawn(storm.draw, ANSWER, 1, SLOW_COMMANDS)]
        for number, victims in enumerate(quick + slow):
            began = time.monotonic()
            with storm.over(*victims, within=ANSWERED):
                event = said.say(f"!rave {('help', 'status', 'agents')[number % 3]}")
            back = time.monotonic() - began
            said.answered(event)
            tell(f"command {number} {victims} back {back:.0f} s, {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_webhook_that_was_acknowledged_is_in_the_stream_once(machine: Machine, seed: int) -> None:
    with storming(Guest(machine), seed) as storm:
        for victim, _ in itertools.product(
            ("webhook-dispatcher", "nats-server"), range(DELIVERIES)
        ):
            with storm.over(victim, within=DELIVERED):
                pass


@pytest.mark.parametrize("seed", SEEDS)
def test_a_project_is_made_once(machine: Machine, seed: int) -> None:
    projects = []
    with commanding_in(machine, seed) as (storm, said):
        for number, pair in enumerate(drawn(storm.draw, WORK, 2, PROJECTS)):
            began = time.monotonic()
            projects.append(Project(said))
            with storm.over(*pair, within=MADE):
                pass
            projects[-1].made()
            odd = projects[-1].odd(merged=False)
            tell(f"project {number} {pair} {time.monotonic() - began:.0f} s: {odd or 'well'}")
            storm.problems += odd
        storm.guest.delete(*(one.name for one in projects))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flow_loses_and_doubles_nothing(machine: Machine, seed: int) -> None:
    with commanding_in(machine, seed) as (storm, said):
        # In eight rounds each service at each step.
        falls = {step: EVERY[(seed + 3 * at) % len(EVERY)] for at, step in enumerate(STEPS)}

        def at(step: str) -> None:
            with storm.over(falls[step], within=SHORTLY):
                tell(f"{step}: {falls[step]} falls")

        began = time.monotonic()
        project = Project(said)
        project.made()
        tell(f"made {time.monotonic() - began:.0f} s")
        project.merge(at)
        odd = project.odd(merged=True)
        tell(f"flow {falls} {time.monotonic() - began:.0f} s: {odd or 'well'}")
        storm.problems += odd
        storm.guest.delete(project.name)
