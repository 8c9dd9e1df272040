"""What of all that Twisted says goes to the journal."""

from __future__ import annotations

import sys
from typing import Any

from twisted.python import log


def faults() -> None:
    """Let faults alone be said."""
    log.startLoggingWithObserver(_say, setStdout=False)


def complain(text: str) -> None:
    """Say something that is at fault."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _say(event: dict[str, Any]) -> None:
    if event.get("isError"):
        complain(str(log.textFromEventDict(event)))
