"""From a sentence in a chat to what is merged, while everything in between is killed.

Dispatcher, bridge, agents and NATS are processes, of which one is killed by SIGKILL as soon as a
flow has come to a step, or shortly after; which one is drawn, so that each meets each step. The
chat and the forge are stand-ins, which count what they are told.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from rave_platform.adapters.chat.mattermost import KEY
from rave_platform.domain.agents import wording
from rave_platform.domain.tasks import AgentTask
from tests import kills
from tests.integration.platform.agents import AgentPlatform
from tests.integration.platform.mattermost import BOT
from tests.integration.platform.services import with_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.platform.services import Killable, Platform

PROJECT = "rave/shop"
# In one round, how many flows, with two kills each. All rounds are 210 kills; one of them with two
# flows is what a run takes otherwise: each kill is a start of a process, and each flow its tests.
ROUNDS, FLOWS = (7, 15) if kills.STRIDE == 1 else (1, 2)
# Seconds after a step at most that a kill falls.
SHORTLY = 0.3
WEBHOOKS = 3  # around each kill


class Flow:
    """One sentence, and what becomes of it."""

    def __init__(self, found: AgentPlatform, number: int) -> None:
        self.found = found
        self.instruction = f"Say number {number}"
        self.root = found.say(f"!rave run backend-architect shop {self.instruction}")
        self.approval = ""
        self.new = found.say(f'!rave create project made-{number} "Number {number}"')

    def _said(self, *words: str, root: str = "") -> bool:
        texts = self.found.answers(root or self.root)
        return any(all(word in text for word in words) for text in texts)

    @property
    def short(self) -> str:
        (text,) = (text for text in self.found.answers(self.root) if "is accepted" in text)
        return text.split()[1]

    def _approve(self) -> bool:
        if not self.approval and self._said("completed"):
            self.approval = self.found.say(f"!rave approve {self.short} looks good")
        return bool(self.approval)

    def _forge(self, what: Callable[[str], bool]) -> bool:
        return self._said("is accepted") and any(
            self.short in name.replace("-", "") and what(name)
            for name in list(self.found.gitlab.projects[PROJECT].branches)
        )

    def _committed(self, branch: str) -> bool:
        project = self.found.gitlab.projects[PROJECT]
        return project.branches[branch].id != project.branches["main"].id and any(
            self.instruction in commit.message for commit in [project.branches[branch]]
        )

    def _requested(self, branch: str, state: str = "") -> bool:
        return any(
            one["source_branch"] == branch and state in one["state"]
            for one in self.found.gitlab.projects[PROJECT].requests
        )

    def steps(self) -> dict[str, Callable[[], bool]]:
        """Return how it is seen that it has come to each step, in their order."""
        return {
            "said": lambda: True,
            "answered": partial(self._said, "is accepted"),
            "begun": partial(self._said, "running"),
            "branch made": lambda: self._forge(lambda _: True),
            "committed": lambda: self._forge(self._committed),
            "merge request opened": lambda: self._forge(self._requested),
            "completion said": partial(self._said, "completed"),
            "approval said": self._approve,
            "merged": lambda: (
                self._approve() and self._forge(partial(self._requested, state="merged"))
            ),
        }

    def over(self) -> bool:
        return self._approve() and self._said("merged: ") and self._said("completed", root=self.new)


STEPS = (
    "said", "answered", "begun", "branch made", "committed", "merge request opened",
    "completion said", "approval said", "merged",
)  # fmt: skip
VICTIMS = ("dispatcher", "bridge", "agent one", "agent two", "NATS")


class Everything:
    """All processes of a flow."""

    def __init__(self, place: Path) -> None:
        self.found = AgentPlatform(place)
        (place / "hooks").mkdir()
        self.hooks: Platform = with_server(place / "hooks", self.found.nats, stream="max_mib = 128")
        self.victims: dict[str, Killable] = {}
        self.sending: list[threading.Thread] = []
        self.sent = 0

    def start(self) -> None:
        self.found.gitlab.make(PROJECT)
        agents = [self.found.agent("backend-architect", name) for name in ("one", "two")]
        processes = (self.hooks.dispatcher, self.found.bridge, *agents, self.found.nats)
        self.victims = dict(zip(VICTIMS, processes, strict=True))
        for process in reversed(processes):
            process.start()

    def wait(self, condition: Callable[[], bool], pause: float) -> None:
        """Wait for something; nobody may end by itself meanwhile."""

        def found() -> bool:
            for name, process in self.victims.items():
                assert process.process is not None
                assert process.process.poll() is None, f"{name}: {process.log.read_text()}"
            return condition()

        until(found, pause=pause)

    def kill(self, name: str) -> None:
        """Kill one of them while webhooks come, and start it again."""
        numbers = range(self.sent, self.sent + WEBHOOKS)
        self.sent += WEBHOOKS
        self.sending.append(threading.Thread(target=self.hooks.send, args=(numbers, 1)))
        self.sending[-1].start()
        self.victims[name].end()
        kills.count()
        self.victims[name].start()


@pytest.fixture
def everything(tmp_path: Path) -> Iterator[Everything]:
    made = Everything(tmp_path)
    with made.found:
        try:
            yield made
        finally:
            dispatcher = made.hooks.dispatcher
            if dispatcher.process is not None and dispatcher.process.poll() is None:
                dispatcher.end()
    assert made.found.gitlab.complaints == []


def drawn(seed: int) -> list[tuple[tuple[int, str], tuple[int, str]]]:
    """Return for each flow of a round what is killed at which two steps: over all rounds each
    process at each step, in an order that a constant gives.
    """
    pairs = list(itertools.product(range(len(STEPS)), VICTIMS))
    every: list[tuple[int, str]] = []
    chance = random.Random(20261126)  # noqa: S311 - the same each time
    while len(every) < 7 * 15 * 2:
        chance.shuffle(pairs)
        every += pairs
    mine = every[(seed - 1) * FLOWS * 2 : seed * FLOWS * 2]
    return [(min(two), max(two)) for two in zip(mine[::2], mine[1::2], strict=True)]


@pytest.mark.parametrize("seed", range(1, ROUNDS + 1))
def test_no_kill_loses_or_doubles_anything(
    everything: Everything, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, chance = everything.found, random.Random(seed)  # noqa: S311
    everything.start()
    flows, killed = [], Counter[str]()
    for number, deadly in enumerate(drawn(seed)):
        flow = Flow(found, number)
        flows.append(flow)
        steps = flow.steps()
        for step, victim in deadly:
            everything.wait(steps[STEPS[step]], 0.02)
            time.sleep(chance.choice((0.0, chance.uniform(0, SHORTLY))))
            everything.kill(victim)
            killed.update((victim, STEPS[step]))
    for flow in flows:
        everything.wait(flow.over, 0.1)
    for thread in everything.sending:
        thread.join()
    everything.hooks.settle()
    require_once(everything, flows)
    with capsys.disabled():
        sys.stdout.write(f"\nround {seed}: {json.dumps(killed)}\n")


def require_once(everything: Everything, flows: list[Flow]) -> None:
    """See to it that everything was done, and once."""
    found = everything.found
    # No answer is there twice, and nothing that was to be said is missing.
    said = Counter(p["props"][KEY] for p in found.chat.posts.values() if p["user_id"] == BOT)
    assert set(said.values()) == {1}
    for flow in flows:
        for root, word in ((flow.root, "is accepted"), (flow.new, "is accepted"),
                           (flow.root, "merged: "), (flow.approval, "is approved")):  # fmt: skip
            assert len([text for text in found.answers(root) if word in text]) == 1
    # One project, branch, merge request and note for each.
    asked = [AgentTask.model_validate(one) for one in found.stream("rave.tasks.v1.asked.>")]
    work = {wording.branch(task) for task in asked if task.kind == "work"}
    assert (len(asked), len(work)) == (2 * len(flows), len(flows))
    projects = {PROJECT, *(f"rave/made-{number}" for number in range(len(flows)))}
    assert set(found.gitlab.projects) == projects
    project = found.gitlab.projects[PROJECT]
    assert Counter(one["source_branch"] for one in project.requests) == dict.fromkeys(work, 1)
    assert {one["state"] for one in project.requests} == {"merged"}
    assert set(project.branches) == work | {"main"}
    assert {len(notes) for notes in project.notes.values()} == {1}
    # Every webhook that was acknowledged is in the stream, once.
    messages = Counter(name for name, _ in everything.hooks.messages())
    acknowledged = everything.hooks.acknowledged
    assert sorted(acknowledged) == list(range(everything.sent))
    assert messages == dict.fromkeys(acknowledged.values(), 1)
