"""Does the tasks that are asked for, one at a time, and goes on with what was left.

The stream brings a task again until it is told that it is done, and the ledger knows how far it
has come: so an agent may be killed anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rave_platform.application.agents.ports import TaskFailedError
from rave_platform.application.ports import (
    StoreUnavailableError,
    StreamUnavailableError,
    UnavailableError,
)
from rave_platform.application.rounds import FIRST_PAUSE, LONGEST_PAUSE, Rounds
from rave_platform.domain.agents import progress as progresses
from rave_platform.domain.agents.progress import TaskProgress
from rave_platform.domain.tasks import FOLLOWING, AgentTask, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from rave_platform.application.agents.ports import Delivery, TaskLedger, TaskQueue
    from rave_platform.application.agents.steps import Steps
    from rave_platform.application.ports import Blocking
    from rave_platform.domain.agents.limits import TaskLimits

LOG = logging.getLogger(__name__)

# Seconds between two looks whether a task is still wanted, each of which also tells the stream that
# it is worked on: a part of what the stream waits before it brings it to another agent.
LOOK = 5.0


class Working:
    """Works while `run` runs; `told` is called whenever there is something to tell."""

    def __init__(
        self,
        ledger: TaskLedger,
        queue: TaskQueue,
        steps: Steps,
        blocking: Blocking[Any],
        allowed: TaskLimits,
        *,
        told: Callable[[], None] = lambda: None,
        look: float = LOOK,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._steps = steps
        self._blocking = blocking
        self._allowed = allowed
        self._told = told
        self._look = look
        self._now = now
        self._rounds = Rounds(self.work, "tasks wait")
        self._resumed = False
        self.current: UUID | None = None

    async def run(self) -> None:
        """Work, until cancelled."""
        await self._rounds.run()

    async def work(self) -> int:
        """Go on with what was left, or do one task; return how many.

        Raises:
            UnavailableError: if something is not there now.
        """
        if not self._resumed:
            # At once, and not when the stream has waited for the agent that was lost.
            for left in await self._blocking(self._ledger.unfinished):
                await self._do(left, None)
            self._resumed = True
        delivery = await self._queue.asked()
        if delivery is None:
            # The queue has waited already.
            return 1
        try:
            task = AgentTask.model_validate_json(delivery.data)
        except ValidationError:
            LOG.warning("somebody asked for something else than a task")
            await delivery.done()
            return 1
        await self._do(await self._found(task), delivery)
        await delivery.done()
        return 1

    async def _found(self, task: AgentTask) -> TaskProgress:
        """Return how far a task has come, here or with an agent that was lost."""
        found: TaskProgress | None = await self._blocking(lambda: self._ledger.load(task.task_id))
        return found or TaskProgress(await self._queue.standing(task.task_id) or task)

    async def _do(self, found: TaskProgress, delivery: Delivery | None) -> None:
        """Do a task to its end.

        Raises:
            UnavailableError: if store or stream are not there; what is left is gone on with.
        """
        if found.ended:
            return
        self.current = found.task.task_id
        try:
            progress = progresses.taken(found, self._now(), self._allowed.attempts)
            await self._keep(progress)
            if not progress.ended:
                await self._watched(progress, delivery)
        except UnavailableError:
            # What it has kept is gone on with in the next round.
            self._resumed = False
            raise
        finally:
            self.current = None

    async def _watched(self, progress: TaskProgress, delivery: Delivery | None) -> None:
        """Do it, for as long as it may take and is wanted."""
        doing = asyncio.create_task(self._in_time(progress))
        watching = asyncio.create_task(self._until_unwanted(progress.task.task_id, delivery))
        try:
            await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                doing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await doing
                if doing.cancelled():
                    await self._give_up(progress, watching.result())
                    return
            doing.result()
        finally:
            for task in (doing, watching):
                task.cancel()
            await asyncio.gather(doing, watching, return_exceptions=True)

    async def _until_unwanted(self, task_id: UUID, delivery: Delivery | None) -> str:
        """Return once nobody wants a task any more: why."""
        while True:
            with contextlib.suppress(StreamUnavailableError):
                if delivery is not None:
                    await delivery.keep()
                decision = await self._queue.cancelled(task_id)
                if decision is not None:
                    reason = f": {decision.reason}" if decision.reason else ""
                    return f"cancelled by {decision.by}{reason}"
            await asyncio.sleep(self._look)

    async def _in_time(self, progress: TaskProgress) -> None:
        """Do the steps; a task that takes too long, or cannot be done, fails."""
        waited_for = ""
        pause = FIRST_PAUSE
        try:
            async with asyncio.timeout(self._allowed.seconds):
                while progress.step is not None:
                    try:
                        progress = await self._step(progress)
                        pause = FIRST_PAUSE
                    except (StoreUnavailableError, StreamUnavailableError):
                        raise
                    except UnavailableError as fault:
                        waited_for = f"; {fault}"
                        await asyncio.sleep(max(pause, fault.retry_after))
                        pause = min(LONGEST_PAUSE, pause * 2)
        except TimeoutError:
            why = f"it took longer than {self._allowed.seconds:g} s{waited_for}"
            await self._give_up(progress, why)
        except TaskFailedError as fault:
            await self._give_up(progress, str(fault))

    async def _step(self, progress: TaskProgress) -> TaskProgress:
        """Carry out the next step; return how far it has come then, which is kept."""
        begun = progresses.step_begun(progress)
        await self._keep(begun)
        outcome = await self._steps.carry_out(begun)
        after = progresses.step_done(begun, outcome, self._now())
        await self._keep(after)
        return after

    async def _give_up(self, progress: TaskProgress, why: str) -> None:
        """Have a task fail, however far it has come meanwhile."""
        task_id = progress.task.task_id
        found = await self._blocking(lambda: self._ledger.load(task_id)) or progress
        if not found.ended:
            await self._keep(progresses.given_up(found, self._now(), why))

    async def _keep(self, progress: TaskProgress) -> None:
        # What is being written when we are cancelled is written.
        keeping = asyncio.ensure_future(self._blocking(lambda: self._ledger.keep(progress)))
        await asyncio.shield(keeping)
        self._told()
        task = progress.task
        if not FOLLOWING[task.status]:
            LOG.info(
                "task %s", task.status.value,
                extra={"event_id": str(task.task_id), "trace_id": task.trace_id,
                       "why": task.error if task.status is TaskStatus.FAILED else ""},
            )  # fmt: skip
