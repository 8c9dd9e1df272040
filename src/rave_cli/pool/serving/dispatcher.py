"""Carries between store and queue: jobs into the one, what happened to them into the other.

It may end at any step and begin again: it only ever asks what is true now, and each step can be
done twice.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.job import withdrawn
from rave_cli.pool.proof import statement_bytes
from rave_cli.pool.queue.streams import PRESENT, Fault
from rave_cli.transcript.dsse import seal

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.jobs.job import Job, Printout
    from rave_cli.pool.jobs.store import JobStore
    from rave_cli.pool.queue.streams import Queue
    from rave_cli.transcript import SigningKey

# Seconds for which it waits for something to happen in the queue, before it looks into the store.
TURN = 0.1

# Jobs that go into the queue at a time.
BATCH = 500

# Seconds before it asks again for a server that does not answer.
AGAIN = 0.5


def whoever(place: Path) -> str:
    """Return what tells whoever serves a store from whoever serves a copy of it: a machine that is
    copied boots anew.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = socket.gethostname()
    return f"{boot} {place}"


class Dispatcher:
    """The one dispatcher of a store. `key` signs the proofs of jobs that end; `on_change` is told
    each job that is changed; `exports` says whether the traces of jobs are to be exported.
    """

    def __init__(
        self,
        store: JobStore,
        queue: Queue,
        key: SigningKey,
        on_change: Callable[[Job], None],
        *,
        exports: bool = False,
    ) -> None:
        self._store, self._queue, self._key, self._on_change = store, queue, key, on_change
        self._exports = exports
        self._origin = store.origin
        self._epoch: str | None = None
        self._who, self._said = whoever(store.place), float(-PRESENT)

    def turn(self, wait: float = TURN) -> bool:
        """Do once all that there is to do; return whether the queue answers.

        Raises:
            RaveError: HOST if the store cannot be read or written, or a copy of it is served.
        """
        try:
            self._be_present()
            if self._epoch is None or self._queue.epoch() != self._epoch:
                self._begin()
            self._record(wait)
            self._enqueue()
            self._withdraw()
            self._queue.promote()
        except Fault:
            # What it has forgotten, if it was gone, nobody knows.
            self._epoch, self._said = None, -PRESENT
            return False
        return True

    def _be_present(self) -> None:
        """Say that we are there, now and then: what another says instead of us has a copy."""
        now = time.monotonic()
        if now - self._said < PRESENT / 4:
            return
        if not self._queue.present(self._origin, self._who):
            raise RaveError(
                "a copy of this pool's jobs is served by another host, or was until now",
                hint=f"rave pool serve   (in {PRESENT} s, once no other host serves a copy)",
                exit_code=ExitCode.HOST,
            )
        self._said = now

    def _begin(self) -> None:
        """Take it that the queue has nothing; adding what it has changes nothing."""
        epoch = self._queue.prepare()
        self._store.queue_anew(epoch)
        # It may have forgotten that, too.
        self._said = -PRESENT
        self._be_present()
        self._epoch = epoch

    def _record(self, wait: float) -> None:
        seen = self._store.seen
        told, last = self._queue.happenings(self._origin, seen, wait=wait)
        if not told:
            return
        changed = self._store.record(told, last, seal=self._seal, exports=self._exports)
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
            for changed in self._store.record(ended, seal=self._seal, exports=self._exports):
                self._on_change(changed)

    def _seal(self, job: Job, printout: Printout) -> bytes:
        return seal(statement_bytes(job, printout), self._key)
