"""Kills in a development machine while webhooks arrive, and what has to be there afterwards."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rave_cli.flows import webhooks
from tests.integration.development.guest import AWAY, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.development.guest import Guest

BETWEEN = 3.0  # seconds between two webhooks


class Webhooks(threading.Thread):
    """Whoever sends webhooks, and each again until it is acknowledged."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(daemon=True)
        self.guest = guest
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
        body = json.dumps({"ref": "refs/heads/main", "nonce": os.urandom(8).hex()}).encode()
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

    def odd(self) -> list[str]:
        """Return what was acknowledged, and is not handed over, or not once."""
        name = self.guest.machine.name
        eventually(lambda: not webhooks.listed(name, state="accepted"))
        found = Counter(self.guest.handed_over()) - self._before
        wanted = Counter(self.acknowledged)
        return [
            f"webhook {one} is acknowledged {wanted[one]} times, and there {found[one]} times"
            for one in wanted | found
            if (wanted[one], found[one]) != (1, 1)
        ]


def tell(line: str) -> None:
    """Show how far it is: it takes long."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


class Storm:
    """What is killed while webhooks arrive, and how often it was."""

    def __init__(self, guest: Guest, hooks: Webhooks, seed: int) -> None:
        self.guest, self.hooks = guest, hooks
        self.draw = random.Random(seed)  # noqa: S311 - the same each time
        self.killed: Counter[str] = Counter()
        self.problems: list[str] = []

    @contextmanager
    def over(self, *services: str, within: float) -> Iterator[None]:
        """Kill services, each once in the next seconds; afterwards all run anew."""
        falls = {service: self.draw.uniform(0, within) for service in services}
        # By one way into the machine: a second one would be SSH, which costs it a second.
        with ThreadPoolExecutor(1) as pool:
            falling = pool.submit(self.guest.kill, falls)
            yield
            falling.result()
        self.killed.update(services)


@contextmanager
def storming(guest: Guest, seed: int = 0) -> Iterator[Storm]:
    """Have webhooks arrive; afterwards nothing may be odd."""
    with Webhooks(guest) as hooks:
        storm = Storm(guest, hooks, seed)
        yield storm
    storm.problems += hooks.odd()
    tell(f"seed {seed}, killed: {json.dumps(storm.killed)}, {storm.killed.total()} in all")
    tell(f"webhooks: {len(hooks.acknowledged)}, {json.dumps(hooks.answers)}")
    assert storm.problems == []
