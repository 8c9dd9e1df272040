"""What passes between the ban, which is tried outside, and the guest's batch that lifts it.

Two threads share it: one fails to log in and looks whether the door is shut, one asks the guest.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.errors import RaveError
    from rave_cli.transcript.check import CheckResult

# Seconds between two looks at the time that a run has left.
LOOK = 0.2


class BanTurn:
    """One ban, which is tried at most once."""

    def __init__(self) -> None:
        self._tried: Future[bool] = Future()
        self._asked: Future[None] = Future()
        self._lifted: Future[CheckResult] = Future()

    # --- whoever fails to log in

    def tried(self) -> None:
        """Say that there may be a ban by now; return when the guest is asked to lift it.

        Raises:
            RaveError: it is not going to be.
        """
        self._tried.set_result(True)
        self._asked.result()

    def forgo(self) -> None:
        """Say that none is going to be tried, unless one was."""
        if not self._tried.done():
            self._tried.set_result(False)

    @property
    def held(self) -> bool:
        """Whether it may be in force still."""
        return not self._lifted.done()

    def outcome(self) -> CheckResult:
        """Return what the guest said of it.

        Raises:
            RaveError: it could not be asked.
        """
        return self._lifted.result()

    # --- whoever asks the guest

    def to_be_lifted(self, left: Callable[[], float]) -> bool:
        """Wait until it is known whether one is tried; return whether the guest is asked to lift
        it, which is to come next.

        `left` says how many seconds the run has left, and raises when there are none.
        """
        while not wait((self._tried,), min(LOOK, left())).done:
            continue
        tried = self._tried.result()
        if tried:
            self._asked.set_result(None)
        return tried

    def lifted(self, result: CheckResult) -> None:
        """Say what the guest answered."""
        self._lifted.set_result(result)

    def end(self, why: RaveError) -> None:
        """Let nobody wait for the guest any more."""
        for future in (self._asked, self._lifted):
            if not future.done():
                future.set_exception(why)
