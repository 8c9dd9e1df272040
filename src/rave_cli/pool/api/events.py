"""Tells whoever listens of each job that is another than before."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.jobs.job import Job

# Jobs that wait for one who listens; whoever is further behind hears no more, and can ask again.
MOST_BEHIND = 1000

# Of all.
MOST_LISTENERS = 64


class JobFeed:
    """What is told in any thread reaches whoever listens in the loop's."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: set[asyncio.Queue[Job | None]] = set()

    def begin(self) -> None:
        """Let it be listened to in the loop that runs."""
        self._loop = asyncio.get_running_loop()

    def end(self) -> None:
        """Let whoever listens hear that nothing more comes."""
        self._loop = None
        for queue in list(self._queues):
            self._put(queue, None)

    def tell(self, job: Job) -> None:
        """Tell of a job, from any thread."""
        loop = self._loop
        if loop is not None and self._queues:
            try:
                loop.call_soon_threadsafe(self._spread, job)
            except RuntimeError:
                # It was closed meanwhile: nobody listens.
                return

    @property
    def full(self) -> bool:
        """Whether no more may listen."""
        return len(self._queues) >= MOST_LISTENERS

    @contextmanager
    def listening(self) -> Iterator[asyncio.Queue[Job | None]]:
        """Yield a queue of the jobs that change meanwhile; None is its end."""
        queue: asyncio.Queue[Job | None] = asyncio.Queue(MOST_BEHIND)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def _spread(self, job: Job) -> None:
        for queue in list(self._queues):
            if not self._put(queue, job):
                self._queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    def _put(self, queue: asyncio.Queue[Job | None], job: Job | None) -> bool:
        try:
            queue.put_nowait(job)
        except asyncio.QueueFull:
            return False
        return True
