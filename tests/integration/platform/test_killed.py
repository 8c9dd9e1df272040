"""Whatever is killed, and whenever: what was acknowledged reaches the stream, once."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests import kills

if TYPE_CHECKING:
    from tests.integration.platform.services import Platform

# At how many moments something is killed, and how many webhooks come around each.
POINTS = 120 // kills.STRIDE
EACH = 12
# Seconds within which the kill falls after the first of them is sent.
WITHIN = 0.12


def test_no_kill_loses_what_was_acknowledged_or_doubles_it(running: Platform) -> None:
    chance = random.Random(20261126)  # noqa: S311 - the same moments each time
    for point in range(POINTS):
        victim = chance.choice([running.nats, running.dispatcher])
        numbers = range(point * EACH, (point + 1) * EACH)
        sending = threading.Thread(target=running.send, args=(numbers,))
        sending.start()
        time.sleep(chance.uniform(0, WITHIN))
        # Mostly it is killed; told to end, it ends.
        victim.end(signal.SIGTERM if chance.random() < 0.2 else signal.SIGKILL)
        kills.count()
        # Sometimes the other goes, too, before the first is back.
        if chance.random() < 0.2:
            other = running.nats if victim is running.dispatcher else running.dispatcher
            other.end()
            kills.count()
            other.start()
        victim.start()
        sending.join()
    running.settle()
    found = running.messages()
    times = Counter(name for name, _ in found)
    assert sorted(running.acknowledged) == list(range(POINTS * EACH))
    assert set(times) == set(running.acknowledged.values())
    assert set(times.values()) == {1}
    assert len({said["event_uuid"] for _, said in found}) == POINTS * EACH
