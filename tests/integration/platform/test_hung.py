"""A real nats-server whose disk has been full, and what the guest does about it (hung.py)."""

from __future__ import annotations

import os
import signal
from itertools import count
from typing import TYPE_CHECKING

import httpx

from tests.integration.platform.services import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.platform.conftest import MakePlatform

# Seconds without an answer: as the guest asks, in which it is a verdict after more than one.
MUTE = 2.0


def test_a_server_that_hangs_since_its_disk_was_full_is_ended_and_has_lost_nothing(
    make_platform: MakePlatform, small_disk: Path
) -> None:
    monitor = free_port()
    found = make_platform(
        jetstream={"store_dir": str(small_disk), "max_file_store": 1 << 28},
        http=f"127.0.0.1:{monitor}",
    )

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{monitor}/jsz", timeout=MUTE).is_success
        except httpx.TransportError:
            return False

    found.nats.start()
    found.dispatcher.start()
    found.send(range(5))
    found.settle()
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize - 40_000))
    number = count(100)
    with httpx.Client(timeout=60) as client:
        until(lambda: found.post(client, next(number), padding=50_000).is_success and not answers())
    (small_disk / "filler").unlink()
    # If it answers by itself by now, what ends it may go.
    assert not answers()

    # As nats-hung.service does.
    found.nats.end(signal.SIGKILL)
    found.nats.start()
    found.settle()
    assert {name for name, _ in found.messages()} == set(found.acknowledged.values())
