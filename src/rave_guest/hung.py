"""Says which services run and answer nobody any more: the base ends those, and PID 1 starts them
anew. This program itself may end no process of another account.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from rave_guest import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    class Watched(Protocol):
        """What is known of a service: its verdict, and whether its units run."""

        name: str
        state: str
        active: bool


# An empty file for each, with the service's name; whoever ends it takes the file away before.
PLACE = "/run/rave/hung"
# Services of which that is known, and that lose nothing which they have acknowledged. The server of
# NATS that Debian 12 has waits for a lock that it holds itself as soon as a message cannot be
# written (nats-server 2.9.10, writeMsgRecord in server/filestore.go), also with room again. Later
# ones turn JetStream off until they are started anew (handleOutOfSpace in server/stream.go).
KNOWN = frozenset(("nats",))
PATIENCE = 60.0  # seconds for which one has to have failed while its units run


class Hung:
    """What has failed although it runs, and since when."""

    def __init__(
        self, place: str = PLACE, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        """Nothing is known yet."""
        self._place, self._clock = place, clock
        self._since: dict[str, float] = {}

    def look(self, services: Iterable[Watched]) -> None:
        """Take the verdicts of a round; say what has hung for too long.

        Raises:
            OSError: there is no place to say it.
        """
        now = self._clock()
        for service in services:
            if service.name not in KNOWN:
                continue
            if service.state != "failed" or not service.active:
                self._since.pop(service.name, None)
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._place}/{service.name}")
            elif now - self._since.setdefault(service.name, now) >= PATIENCE:
                # The next one has as long.
                del self._since[service.name]
                os.makedirs(self._place, 0o755, exist_ok=True)
                print(f"{service.name} runs, and does not answer", file=sys.stderr, flush=True)
                report.write(f"{self._place}/{service.name}", "")
