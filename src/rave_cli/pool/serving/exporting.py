"""Exports the traces of jobs that are over, in a thread that nobody waits for.

Which are to be exported stands in the store, from the transaction in which a job ended: what a
collector has not taken when this ends goes to it the next time. A collector that is dead costs the
oldest traces beyond a number, and jobs nothing.
"""

from __future__ import annotations

import logging
import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.pool.jobs.spans import trace_of
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.serving import otlp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.pool.jobs.spans import JobTrace
    from rave_cli.pool.serving.metrics import PoolMetrics
    from rave_cli.pool.serving.otlp import Collector

log = logging.getLogger("rave.pool.traces")

# Traces in a request, and seconds between two looks.
BATCH = 64
LOOK = 1.0

# Full jitter: random(0, min(most, first * 2^tries)) seconds after a failure.
FIRST_WAIT, MOST_WAIT = 1.0, 60.0

# Seconds for which a collector may ask to be left alone.
MOST_ASKED = 600.0

# Seconds to end; what is under way then is given up, and sent again.
ENDS = 1.0


class TraceExporter:
    """Sends traces from the store at `place` to a collector."""

    def __init__(self, to: Collector, place: Path, metrics: PoolMetrics, pipeline: str) -> None:
        self._to, self._place, self._metrics, self._pipeline = to, place, metrics, pipeline
        self._ends = threading.Event()
        self._failed = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Export meanwhile."""
        # Whoever ends does not wait for a collector that does not answer.
        thread = threading.Thread(target=self._work, name="traces of the pool", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ends.set()
            thread.join(ENDS)

    def _work(self) -> None:
        wait = 0.0
        while not self._ends.wait(wait):
            try:
                with JobStore(self._place) as store:
                    while not self._ends.wait(wait):
                        wait = self.turn(store)
            except RaveError as error:
                log.warning("no traces: %s", error.message)
                wait = MOST_WAIT
            except Exception:
                log.exception("no traces")
                wait = MOST_WAIT

    def turn(self, store: JobStore) -> float:
        """Send what is due, once; return the seconds before the next time.

        Raises:
            RaveError: HOST if the store cannot be read or written.
        """
        self._metrics.traces("dropped", store.drop_due())
        due = store.due(BATCH)
        if not due:
            return LOOK
        answer = otlp.send(self._to, otlp.document(_traces(store, due), self._pipeline))
        if answer.came == "later":
            self._failed += 1
            if self._failed == 1:
                log.warning("the collector of traces does not take any: %s", answer.why)
            most = min(MOST_WAIT, FIRST_WAIT * 2**self._failed)
            if answer.wait is not None:
                return min(MOST_ASKED, answer.wait)
            return random.uniform(0, most)  # noqa: S311 - no secret
        self._failed = 0
        if answer.why:
            log.warning("the collector of traces: %s", answer.why)
        store.settled([number for number, _ in due])
        self._metrics.traces("exported" if answer.came == "taken" else "dropped", len(due))
        return 0.0


def _traces(store: JobStore, due: list[tuple[int, str]]) -> list[JobTrace]:
    return [trace_of(store.history(store.load(name))) for _, name in due]
