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
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.integration.development import ASKED_FOR, falling
from tests.integration.development.guest import Guest
from tests.integration.development.storm import Project, commanding_in, drawn, storming, tell

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from tests.integration.development.storm import Said

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(14_400),
]

FIRST = int(os.environ.get("RAVE_DEVELOPMENT_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("RAVE_DEVELOPMENT_ROUNDS", "1")))

AGENTS = ("backend-architect", "frontend-developer", "ai-engineer")
AGENT = f"rave-agent@{AGENTS[0]}"
# On the way of a command to its answer, and of the webhooks meanwhile; of a project to the forge.
# The homeserver starts for minutes on a busy host, so it falls less often.
ANSWER = ("chat-bridge", "postgresql", "nats-server", "webhook-dispatcher")
SLOW = "matrix-synapse"
WORK = ("chat-bridge", AGENT, "nats-server", "postgresql", "pagure", "pagure-worker")
EVERY = ("webhook-dispatcher", SLOW, *WORK)
STEPS = ("said", "answered", "begun", "completion said", "approval said")

# In a storm: how often each falls, and how many seconds it has run then at the mean.
# What is written in Python takes a processor for many seconds to start.
STORM = {
    "nats-server": (16, 16.0), "postgresql": (14, 20.0), "webhook-dispatcher": (8, 25.0),
    "chat-bridge": (4, 60.0), "pagure-worker": (3, 60.0), "pagure": (1, 60.0),
    **{f"rave-agent@{agent}": (2, 90.0) for agent in AGENTS},
}  # fmt: skip
SIDE_BY_SIDE = int(os.environ.get("RAVE_DEVELOPMENT_FLOWS", "3"))
CHEAP = ("help", "status", "agents")  # commands beside it

# What starts soon falls often.
GUSTS = {"nats-server": (40, 5.0), "postgresql": (20, 10.0), "webhook-dispatcher": (8, 15.0)}

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


@pytest.mark.parametrize("seed", SEEDS)
def test_commands_and_webhooks_outlast_gusts(machine: Machine, seed: int) -> None:
    with commanding_in(machine, seed) as (storm, said), storm.raging(GUSTS):
        for number in itertools.count():
            if not falling.under_way(storm.guest):
                break
            said.answered(said.say(f"!rave {CHEAP[number % len(CHEAP)]}"))


class Flow:
    """A project that is made, written in, approved and merged, and when it came to which step."""

    def __init__(self, said: Said, agent: str) -> None:
        self.agent, self.steps = agent, [(time.time(), "asked for")]
        self.project = Project(said)
        self._said = said

    def run(self) -> None:
        """Have all of it done."""
        self.project.made()
        self._at("made")
        self.project.merge(self._at, self.agent)

    def _at(self, step: str) -> None:
        self.steps.append((time.time(), step))
        tell(f"{self.agent}: {step} {self.steps[-1][0] - self.steps[0][0]:.0f} s")

    def step(self, when: float) -> str:
        """Return the step to which it had come at a time."""
        return [step for at, step in self.steps if at <= when or step == "asked for"][-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_flows_side_by_side_lose_and_double_nothing_in_a_storm(machine: Machine, seed: int) -> None:
    with commanding_in(machine, seed) as (storm, said):
        flows = [Flow(said, agent) for agent in AGENTS[:SIDE_BY_SIDE]]
        with ThreadPoolExecutor(len(flows)) as pool:
            with storm.raging(STORM):
                running = [pool.submit(flow.run) for flow in flows]
                for number in itertools.count():
                    done = all(one.done() for one in running)
                    if done or not falling.under_way(storm.guest):
                        break
                    said.answered(said.say(f"!rave {CHEAP[number % len(CHEAP)]}"))
            for one in running:
                one.result()
        for event in said.events:
            said.answered(event)
        met = Counter(
            f"{one.service}, {flow.step(one.at)}" for one in storm.falls for flow in flows
        )
        tell("what fell at which step of the three", met=met)
        for flow in flows:
            odd = flow.project.odd(merged=True)
            tell(f"{flow.agent}: {odd or 'well'}", steps=flow.steps)
            storm.problems += odd
        storm.guest.delete(*(flow.project.name for flow in flows))
