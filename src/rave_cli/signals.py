"""Signals that end a process: what they clean up is what Ctrl-C cleans up."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def terminations() -> Iterator[None]:
    """Let SIGTERM end the process the way Ctrl-C does, so that what was begun is cleaned up.

    CI systems cancel jobs with it. Only the main thread may set handlers; elsewhere nothing
    changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
