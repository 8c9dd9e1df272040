"""The store, for a server that must not wait for it: a thread that alone has it open.

Whatever is to be taken in while the disk writes is taken in together, in the next transaction: that
is what lets many be acknowledged a second, each of them durably.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from rave_cli import audit
from rave_cli.audit import AuditedCommand
from rave_cli.pool.access.local import LocalPool
from rave_cli.pool.jobs.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import JobStore
    from rave_cli.pool.jobs.submission import Submission

T = TypeVar("T")

# Groups of jobs that are taken in with one transaction.
MOST_GROUPS = 64


class StoreThread:
    """A thread that has the pool open."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "store of the pool's API")
        self._store: JobStore | None = None
        self._open = ExitStack()

    async def do(self, work: Callable[[LocalPool], T]) -> T:
        """Do something with the pool there.

        Raises:
            RaveError: as that does; HOST if the store cannot be opened.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    def close(self) -> None:
        """Let what was begun come to its end, and close the store."""
        self._thread.submit(self._open.close)
        self._thread.shutdown()

    def _do(self, work: Callable[[LocalPool], T]) -> T:
        if self._store is None:
            self._store = self._open.enter_context(open_store())
        return work(LocalPool(self._store))


@dataclass(frozen=True)
class _Group:
    asked: Submission
    by: str
    done: asyncio.Future[list[Job]]


class Acceptance:
    """Takes jobs in over one thread of the store. `warn` hears what the audit log cannot take."""

    def __init__(self, thread: StoreThread, warn: Callable[[str], None]) -> None:
        self._thread, self._warn = thread, warn
        self._waiting: list[_Group] = []
        self._working: asyncio.Task[None] | None = None

    async def accept(self, asked: Submission, by: str) -> list[Job]:
        """Take in what somebody submits, all or none; it is on the disk when this returns.

        Raises:
            RaveError: as JobStore.accept.
        """
        done: asyncio.Future[list[Job]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Group(asked, by, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await done

    async def _work(self) -> None:
        while self._waiting:
            groups = self._waiting[:MOST_GROUPS]
            del self._waiting[:MOST_GROUPS]
            try:
                answers = await self._thread.do(partial(self._take, groups))
            except Exception as fault:  # noqa: BLE001 - raised where it is waited for
                answers = [fault] * len(groups)
            for group, answer in zip(groups, answers, strict=True):
                # Whoever has gone away meanwhile hears nothing.
                if group.done.done():
                    continue
                if isinstance(answer, Exception):
                    group.done.set_exception(answer)
                else:
                    group.done.set_result(answer)

    def _take(self, groups: list[_Group], pool: LocalPool) -> list[list[Job] | Exception]:
        # One pair of lines for what is one transaction: each is a sync of the disk, too.
        submitted = [f"{len(group.asked.works)} by {group.by}" for group in groups]
        told = AuditedCommand.of("pool submit", submitted, ["api"])
        with audit.attempt(told, self._warn) as attempt:
            answers = list(pool.store.accept_each([group.asked for group in groups]))
            attempt.exit_code = max(int(getattr(one, "exit_code", 0)) for one in answers)
            return [*answers]
