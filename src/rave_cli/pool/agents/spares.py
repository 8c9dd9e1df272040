"""Machines that stand by for jobs: so many are kept, made anew some time after one is taken, and
given up when none was asked for for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from rave_cli.errors import RaveError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = logging.getLogger("rave.pool")

# Seconds for which whoever took one has the processors, and before another try after a failure:
# twice as many each time, for each costs a start.
RESTS = 2.0
AGAIN, MOST_AGAIN = 10.0, 300.0

# Seconds without a job after which none is kept until the next.
IDLE = 300.0


class Spares(Generic[T]):
    """So many of something as somebody wants, made by `make` in a thread of its own; what is not
    wanted any more goes to `discard`, and so does all of it `idle` seconds after one was asked for.
    """

    def __init__(
        self, make: Callable[[], T], discard: Callable[[T], None], *, idle: float = IDLE
    ) -> None:
        self._make, self._discard = make, discard
        self._idle, self._asked = idle, 0.0
        self._changed = threading.Condition()
        self._there: list[T] = []
        self._wanted, self._rests = 0, 0.0
        self._again = AGAIN
        self._thread: threading.Thread | None = None
        self._ending = False

    def scale(self, wanted: int) -> None:
        """Keep so many from now on."""
        with self._changed:
            if wanted == self._wanted:
                return
            self._wanted, self._asked = wanted, time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="spares of the pool")
                self._thread.start()
            self._changed.notify()

    def take(self) -> T | None:
        """Return one, which is the caller's then; None if there is none."""
        with self._changed:
            self._rests, self._asked = RESTS, time.monotonic()
            return self._there.pop(0) if self._there else None

    def end(self) -> None:
        """Discard all, and make no more."""
        with self._changed:
            self._wanted, self._ending = 0, True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._differs, timeout=1.0)
                if self._ending and not self._there:
                    return
                kept = self._kept()
                gone = self._there.pop() if len(self._there) > kept else None
                rests, self._rests = self._rests, 0.0
                lacks = len(self._there) < kept
            if gone is not None:
                self._discarded(gone)
            elif rests:
                self._rest(rests)
            elif lacks:
                self._add()

    def _differs(self) -> bool:
        return self._ending or len(self._there) != self._kept()

    def _kept(self) -> int:
        """Return how many are to be there now."""
        return self._wanted if time.monotonic() - self._asked < self._idle else 0

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ending, timeout=seconds)

    def _add(self) -> None:
        try:
            made = self._make()
        except RaveError as error:
            log.warning("no machine stands by: %s", error.message)
            self._put_off()
            return
        except Exception:
            log.exception("no machine stands by")
            self._put_off()
            return
        self._again = AGAIN
        with self._changed:
            self._there.append(made)

    def _put_off(self) -> None:
        self._rest(self._again)
        self._again = min(2 * self._again, MOST_AGAIN)

    def _discarded(self, gone: T) -> None:
        try:
            self._discard(gone)
        except RaveError as error:
            log.warning("a machine that stood by is left: %s", error.message)
