"""What of all that Twisted says goes to the journal."""

from __future__ import annotations

import sys
from typing import Any

from twisted.python import log


def faults() -> None:
    """Let faults alone be said."""
    log.startLoggingWithObserver(_say, setStdout=False)


def _say(event: dict[str, Any]) -> None:
    if event.get("isError"):
        sys.stderr.write(f"{log.textFromEventDict(event)}\n")
        sys.stderr.flush()
