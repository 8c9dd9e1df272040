"""Asks a pool beside the loop that draws: what takes long there keeps no key from being heard."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from rave_cli.errors import RaveError
from rave_cli.pool.access.reach import changes, reach

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.access.pool import PoolAccess
    from rave_cli.pool.jobs.job import Job

    Question = Callable[[PoolAccess], Any]
    Asked = tuple[Question, Future[Any]]

# Seconds before a stream of changes that ended is asked for again.
AGAIN = 1.0


class PoolDesk:
    """Asks the pool at an endpoint in a thread, one question after another. Nobody waits for the
    thread: whoever leaves does so while a pool has yet to answer.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._endpoint = endpoint
        self._questions: SimpleQueue[Asked | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="pool", daemon=True)
        self._thread.start()

    def ask(self, question: Question) -> Future[Any]:
        """Let a question be asked; its answer, or the RaveError with which it ends, comes later."""
        answer: Future[Any] = Future()
        self._questions.put((question, answer))
        return answer

    def close(self, seconds: float = 1.0) -> None:
        """Ask nothing more, and wait so long for what is being asked."""
        self._questions.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        while (asked := self._next()) is not None:
            try:
                with reach(self._endpoint) as pool:
                    self._answer(pool, asked)
            except RaveError as error:
                # It cannot be opened: that is tried again for the next question.
                asked[1].set_exception(error)

    def _answer(self, pool: PoolAccess, asked: Asked | None) -> None:
        """Answer this and what is asked after it."""
        while asked is not None:
            question, answer = asked
            try:
                answer.set_result(question(pool))
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                answer.set_exception(error)
            asked = self._next()
        self._questions.put(None)

    def _next(self) -> Asked | None:
        """Return the next question for whose answer somebody waits; None if no more come."""
        while (asked := self._questions.get()) is not None:
            if asked[1].set_running_or_notify_cancel():
                return asked
        return None


class ChangeListener:
    """Listens in a thread to what becomes of jobs, again and again where nobody tells it.

    `heard` is told each job that is another than before, and `silent` that nothing is told any
    more, in that thread.
    """

    def __init__(
        self,
        endpoint: str | None,
        heard: Callable[[Job], object],
        silent: Callable[[], object],
    ) -> None:
        self._endpoint, self._heard, self._silent = endpoint, heard, silent
        self._ends = threading.Event()
        threading.Thread(target=self._work, name="changes of jobs", daemon=True).start()

    def end(self) -> None:
        """Tell nothing more."""
        self._ends.set()

    def _work(self) -> None:
        while not self._ends.is_set():
            with suppress(RaveError):
                for job in changes(self._endpoint):
                    if self._ends.is_set():
                        return
                    self._heard(job)
            self._silent()
            self._ends.wait(AGAIN)
