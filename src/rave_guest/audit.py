"""Logs of their own for what an operator does to accounts and events: JSON lines, for root alone.

{"time": "2026-11-25T23:00:00Z", "action": "disable", "user": "alice", "by": "...", "result": "..."}

A full log becomes accounts.log.1 and takes the place of the older one, so that it has a bound.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager

from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

LOG = "/var/log/rave/accounts.log"
FULL = 1 << 20  # bytes


class Entry:
    """What became of a change."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.result = "failed"


@contextmanager
def entry(log: str, **facts: Any) -> Iterator[Entry]:
    """Write down a change that is made meanwhile, with its result, or why it was refused.

    Raises:
        Refused: nothing can be written down, so nothing is done; or the change is refused.
    """
    made = Entry()
    try:
        stream = _open(log)
    except OSError as error:
        raise Refused("audit", f"nothing can be written to {log}: {error.strerror}") from error
    try:
        yield made
    except Refused as error:
        made.result = f"refused ({error.stage}): {error}"
        raise
    finally:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"time": now, **facts, "result": made.result}) + "\n"
        os.write(stream, line.encode())
        os.fsync(stream)
        os.close(stream)


def _open(log: str) -> int:
    """Open the log to add to it; a full one is put aside."""
    os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    if os.path.exists(log) and os.path.getsize(log) >= FULL:
        os.replace(log, f"{log}.1")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(log, flags, 0o600)
