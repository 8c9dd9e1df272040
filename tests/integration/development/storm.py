"""Kills in a development machine while something goes on, and what has to be there afterwards,
once: webhooks, what was said, what was made.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rave_cli.flows import webhooks
from rave_guest import commanding
from tests.integration.development import falling
from tests.integration.development.guest import AWAY, LONGEST, LOOK, eventually, somebody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rave_cli.machines.spec import Machine
    from rave_guest.commanding import Deed
    from tests.integration.development.falling import Fall
    from tests.integration.development.guest import Guest, Member

BETWEEN = 5.0  # seconds between two webhooks
MOST = 1000  # messages that are looked through
LATELY, LOOKED = 100, 4.0  # messages that are looked through each so many seconds
LOG = os.environ.get("RAVE_DEVELOPMENT_LOG")  # a file to which what came of it is added


def drawn(
    draw: random.Random, victims: Sequence[str], at_once: int, journeys: int
) -> list[tuple[str, ...]]:
    """Return which are killed in each journey: in the end each as often as the others."""
    every = list(itertools.combinations(victims, at_once))
    found: list[tuple[str, ...]] = []
    while len(found) < journeys:
        draw.shuffle(every)
        found += every
    return found[:journeys]


class Webhooks(threading.Thread):
    """Whoever sends webhooks, and each again until it is acknowledged."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(daemon=True)
        self.guest = guest
        self.padding = 0  # bytes by which each is larger
        self.acknowledged: list[str] = []
        self.answers: Counter[str] = Counter()
        self._enough = threading.Event()
        self._before = Counter(guest.handed_over())

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_fault: object) -> None:
        """Send no more; what was begun is sent until it is acknowledged."""
        self._enough.set()
        self.join()

    def run(self) -> None:
        """Send one after the other."""
        while not self._enough.wait(BETWEEN):
            self._send()

    def _send(self) -> None:
        told = {"ref": "refs/heads/main", "nonce": os.urandom(8).hex(), "x": "x" * self.padding}
        body = json.dumps(told).encode()
        eventually(lambda: self._taken(body))

    def _taken(self, body: bytes) -> bool:
        try:
            status, answer = self.guest.hook(body, **self.guest.signed(body))
        except AWAY as fault:
            self.answers[type(fault).__name__] += 1
            return False
        self.answers[str(status)] += 1
        if status in (200, 202):
            self.acknowledged.append(json.loads(answer)["event_uuid"])
        return status in (200, 202)

    def strange(self) -> Counter[str]:
        """Return the sources of what is in the stream, and nobody here has sent: the forge tells
        of what is made in it.
        """
        found = set(Counter(self.guest.handed_over()) - self._before) - set(self.acknowledged)
        stored = {one.event_uuid: one.source for one in webhooks.listed(self.guest.machine.name)}
        return Counter(stored.get(one, "nobody") for one in found)

    def settle(self) -> None:
        """Wait until nothing waits for the stream."""
        name = self.guest.machine.name
        eventually(lambda: not webhooks.listed(name, state="accepted"))

    def odd(self) -> list[str]:
        """Return what was acknowledged, and is not handed over, or not once."""
        self.settle()
        found = Counter(self.guest.handed_over()) - self._before
        wanted = Counter(self.acknowledged)
        stored = Counter(one.event_uuid for one in webhooks.listed(self.guest.machine.name))
        lost = [
            f"webhook {one} is stored {stored[one]} times" for one in wanted if stored[one] != 1
        ]
        # What we did not send the forge told of what was made in it.
        return lost + [
            f"webhook {one} is acknowledged {wanted[one]} times, and there {found[one]} times"
            for one in wanted | found
            if found[one] != 1 or wanted[one] > 1
        ]


class Said:
    """What somebody said, and what the bridge made of it."""

    def __init__(self, guest: Member) -> None:
        self.guest = guest
        self.events: list[str] = []
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}  # until an answer was seen
        self._seen: tuple[float, list[Deed]] = (-LOOKED, [])
        self.merged: list[str] = []  # what was asked for in which threads

    def say(self, text: str) -> str:
        """Say something; return its id."""
        began = time.monotonic()
        event = self.guest.say(text)
        self.began[event] = began
        self.events.append(event)
        return event

    def lately(self, most: int = LATELY) -> list[Deed]:
        """Return what the bridge has said lately; nothing while that cannot be had."""
        with self.guest.turn:
            at, seen = self._seen
            # Several may wait, and each look is work for the homeserver.
            if most == LATELY and time.monotonic() - at < LOOKED:
                return seen
            try:
                seen = commanding.deeds(self.guest.talk, most)
            except AWAY:
                return []
            now = time.monotonic()
            self._seen = now, seen
        for event in [one.key.removeprefix("answer:") for one in seen]:
            if event in self.began:
                self.seconds.setdefault(event, now - self.began[event])
        return seen

    def answered(self, event: str) -> None:
        """Wait until something is answered."""
        key = f"answer:{event}"
        eventually(lambda: any(one.key == key for one in self.lately()))

    def told(self, thread: str, words: str) -> str:
        """Wait until something is said in a thread, the answer to its first message included."""
        deadline = time.monotonic() + LONGEST
        while True:
            texts = [one.text for one in self.lately() if one.thread == thread]
            for text in texts:
                assert ": failed" not in text, text
                if words in text:
                    return text
            assert time.monotonic() < deadline, f"{words!r} is not said: {texts}"
            time.sleep(LOOK)

    def odd(self) -> list[str]:
        """Return what has no answer, and what is said more than once."""
        eventually(lambda: self.lately(MOST))
        # What has none was not said: the room was made, named, entered.
        said = self.lately(MOST)
        keys = Counter(one.key for one in said if one.key)
        found = [f"{key} is said {times} times" for key, times in keys.items() if times != 1]
        # By the forge's webhook it is known a second time.
        merges = Counter(one.thread for one in said if ": merged" in one.text)
        found += [f"{one}: merged {merges[one]} times" for one in self.merged if merges[one] != 1]
        return found + [f"{one} has no answer" for one in self.events if not keys[f"answer:{one}"]]


class Project:
    """A project, asked for; and, if somebody goes on, written in, approved and merged."""

    def __init__(self, said: Said) -> None:
        self.said = said
        self.name = f"rave-faults-{os.urandom(4).hex()}"
        self.first = said.say(f'!rave create project {self.name} "Of the faults"')

    def made(self) -> None:
        """Wait until it is."""
        self.said.told(self.first, ": completed")

    def merge(self, at: Callable[[str], None], agent: str = "backend-architect") -> None:
        """Have something written and merged; `at` is told of each step."""
        asked = self.said.say(f"!rave run {agent} {self.name} Say hello in a test")
        at("said")
        task = self.said.told(asked, "is accepted").split()[1]
        at("answered")
        self.said.told(asked, ": running")
        at("begun")
        self.said.told(asked, ": completed")
        at("completion said")
        self.said.say(f"!rave approve {task}")
        at("approval said")
        self.said.told(asked, ": merged")
        at("merged")
        self.said.merged.append(asked)

    def odd(self, *, merged: bool) -> list[str]:
        """Return what is lost, or there twice."""
        guest = self.said.guest
        found = []
        known = guest.forge(f"projects?pattern={self.name}*&short=true")["projects"]
        if len(known) != 1:
            found.append(f"{self.name}: {len(known)} projects")
        shown = guest.forge(f"{self.name}/pull-requests?status=all")["requests"]
        states = [one["status"] for one in shown]
        if states != ["Merged"] * merged:
            found.append(f"{self.name}: merge requests {states}")
        branches = guest.forge(f"{self.name}/git/branches")["branches"]
        if len(branches) != 1 + merged:
            found.append(f"{self.name}: branches {branches}")
        notes = Counter(note["comment"].strip() for one in shown for note in one["comments"])
        return found + [f"noted {n} times: {text[:60]}" for text, n in notes.items() if n > 1]


def tell(line: str, **figures: object) -> None:
    """Show how far it is: it takes long."""
    sys.stderr.write(
        f"{time.strftime('%H:%M:%S')} {line} {json.dumps(figures) if figures else ''}\n"
    )
    if LOG:
        told = {"test": os.environ.get("PYTEST_CURRENT_TEST"), "at": time.time(), "told": line}
        with Path(LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(told | figures) + "\n")


class Storm:
    """What is killed while webhooks arrive, and how often it was."""

    def __init__(self, guest: Guest, hooks: Webhooks, seed: int) -> None:
        self.guest, self.hooks = guest, hooks
        self.draw = random.Random(seed)  # noqa: S311 - the same each time
        self.killed: Counter[str] = Counter()
        self.falls: list[Fall] = []
        self.problems: list[str] = []

    @contextmanager
    def over(self, *services: str, within: float) -> Iterator[None]:
        """Kill services, each once in the next seconds; afterwards all run anew."""
        falls = {service: self.draw.uniform(0, within) for service in services}
        # By one way into the machine: a second one would be SSH, which costs it a second.
        with ThreadPoolExecutor(1) as pool:
            falls_now = pool.submit(self.guest.kill, falls)
            yield
            self._fell(falls_now.result())

    @contextmanager
    def raging(self, wanted: Mapping[str, tuple[int, float]]) -> Iterator[None]:
        """Kill each service so often beside what is done meanwhile, each time after it has run for
        so many seconds at the mean; afterwards all run anew.
        """
        falls = {
            service: [self.draw.uniform(0.1, 2 * pause) for _ in range(times)]
            for service, (times, pause) in wanted.items()
        }
        falling.begin(self.guest, falls)
        try:
            yield
        finally:
            falling.stop(self.guest)
            eventually(lambda: not falling.under_way(self.guest))
            self._fell(falling.ended(self.guest))

    def _fell(self, falls: Sequence[Fall]) -> None:
        for one in falls:
            tell(f"{one.service} fell", **asdict(one))
        self.killed.update(one.service for one in falls)
        self.falls += falls


@contextmanager
def storming(guest: Guest, seed: int = 0) -> Iterator[Storm]:
    """Have webhooks arrive; afterwards nothing may be odd."""
    with Webhooks(guest) as hooks:
        storm = Storm(guest, hooks, seed)
        yield storm
    storm.problems += hooks.odd()
    tell(f"seed {seed}, {storm.killed.total()} killed", killed=storm.killed, odd=storm.problems)
    sources = hooks.strange()
    tell(f"webhooks: {len(hooks.acknowledged)}", answers=hooks.answers, others=sources)
    if set(sources) - {"pagure"}:
        storm.problems.append(f"in the stream, and nobody has sent it: {sources}")
    assert not storm.problems, storm.problems


@contextmanager
def commanding_in(machine: Machine, seed: int = 0) -> Iterator[tuple[Storm, Said]]:
    """Have somebody signed in, too, of whom nothing may be odd either."""
    with somebody(machine) as member, storming(member, seed) as storm:
        said = Said(member)
        yield storm, said
        storm.problems += said.odd()
        tell(f"commands: {len(said.events)}", seconds=sorted(map(round, said.seconds.values())))
