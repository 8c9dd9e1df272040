"""Carries between store and queue: jobs into the one, what happened to them into the other.

It may end at any step and begin again: it only ever asks what is true now, and each step can be
done twice.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rave_cli.pool.jobs import withdrawn
from rave_cli.pool.proof import statement_bytes
from rave_cli.pool.queue import Fault
from rave_cli.transcript.dsse import seal

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.jobs import Job, Printout
    from rave_cli.pool.jobstore import JobStore
    from rave_cli.pool.queue import Queue
    from rave_cli.transcript import SigningKey

# Seconds for which it waits for something to happen in the queue, before it looks into the store.
TURN = 0.1

# Jobs that go into the queue at a time.
BATCH = 500

# Seconds before it asks again for a server that does not answer.
AGAIN = 0.5


class Dispatcher:
    """The one dispatcher of a store. `key` signs the proofs of jobs that end; `on_change` is told
    each job that is changed.
    """

    def __init__(
        self, store: JobStore, queue: Queue, key: SigningKey, on_change: Callable[[Job], None]
    ) -> None:
        self._store, self._queue, self._key, self._on_change = store, queue, key, on_change
        self._origin = store.origin
        self._epoch: str | None = None

    def turn(self, wait: float = TURN) -> bool:
        """Do once all that there is to do; return whether the queue answers.

        Raises:
            RaveError: HOST if the store cannot be read or written.
        """
        try:
            if self._epoch is None or self._queue.epoch() != self._epoch:
                self._begin()
            self._record(wait)
            self._enqueue()
            self._withdraw()
            self._queue.promote()
        except Fault:
            # What it has forgotten, if it was gone, nobody knows.
            self._epoch = None
            return False
        return True

    def _begin(self) -> None:
        """Take it that the queue has nothing; adding what it has changes nothing."""
        epoch = self._queue.prepare()
        self._store.queue_anew(epoch)
        self._epoch = epoch

    def _record(self, wait: float) -> None:
        seen = self._store.seen
        told, last = self._queue.happenings(self._origin, seen, wait=wait)
        if not told:
            return
        changed = self._store.record(told, last, seal=self._seal)
        self._queue.forget(self._origin, last, [job.name for job in changed if job.over])
        for job in changed:
            self._on_change(job)

    def _enqueue(self) -> None:
        while jobs := self._store.unqueued(BATCH):
            self._queue.enqueue(self._origin, jobs)
            self._store.queued(job.name for job in jobs)

    def _withdraw(self) -> None:
        for job in self._store.cancelling():
            self._end(job, "cancelled", "")
        for job in self._store.expired(time.time()):
            self._end(job, "skipped", "nobody took it in time")

    def _end(self, job: Job, ending: str, why: str) -> None:
        if self._queue.withdraw(job.name, ending, why) == "unknown":
            ended = [(job.name, withdrawn(job, ending, why))]
            for changed in self._store.record(ended, seal=self._seal):
                self._on_change(changed)

    def _seal(self, job: Job, printout: Printout) -> bytes:
        return seal(statement_bytes(job, printout), self._key)
