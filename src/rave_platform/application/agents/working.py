"""Does the tasks that are asked for, one at a time, and goes on with what was left.

The stream brings a task again until it is told that it is done, and the ledger knows how far it
has come: so an agent may be killed anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rave_platform.application.agents.ports import LOOK, TaskFailedError
from rave_platform.application.cancelling import cancel
from rave_platform.application.ports import (
    StoreUnavailableError,
    StreamUnavailableError,
    UnavailableError,
)
from rave_platform.application.rounds import FIRST_PAUSE, LONGEST_PAUSE, Rounds
from rave_platform.application.tracing import Tracer, part
from rave_platform.domain import tasks, tracing
from rave_platform.domain.agents import progress as progresses
from rave_platform.domain.agents.progress import TaskProgress
from rave_platform.domain.tasks import FOLLOWING, AgentTask, TaskStatus
from rave_platform.domain.tracing import SpanKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from uuid import UUID

    from rave_platform.application.agents.ports import Delivery, TaskLedger, TaskQueue
    from rave_platform.application.agents.steps import Steps
    from rave_platform.application.ports import Blocking
    from rave_platform.application.tracing import OpenSpan
    from rave_platform.domain.agents.limits import TaskLimits
    from rave_platform.domain.agents.progress import StepName

LOG = logging.getLogger(__name__)


class _Patience:
    """How long is waited before a step is tried again, and how often it is."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.waited_for = ""
        self.renew()

    def renew(self) -> None:
        """Begin anew, with another step."""
        self._pause, self._stumbles = FIRST_PAUSE, 0

    def before_another(self, fault: Exception, step: StepName | None) -> float:
        """Return how many seconds are waited.

        Raises:
            TaskFailedError: if nobody foresaw what was met, and it was met often enough. Its type
                and place are told: its words may hold what nobody may know.
        """
        pause, self._pause = self._pause, min(LONGEST_PAUSE, self._pause * 2)
        if isinstance(fault, UnavailableError):
            self.waited_for = f"; {fault}"
            return max(pause, fault.retry_after)
        self._stumbles += 1
        LOG.error("a step met what nobody foresaw", exc_info=fault, extra={"reason": str(step)})
        at = traceback.extract_tb(fault.__traceback__)[-1]
        met = f"{type(fault).__name__} at {PurePath(at.filename).name}:{at.lineno}"
        if self._stumbles >= self._most:
            raise TaskFailedError(
                f"its agent met {met} at the step {step}, {self._most} times: that is a fault of"
                " the agent, whose log says more"
            ) from fault
        self.waited_for = f"; {met}"
        return pause


class Working:
    """Works while `run` runs; `told` is called whenever there is something to tell, and `kept` with
    what was kept of a task.
    """

    def __init__(
        self,
        ledger: TaskLedger,
        queue: TaskQueue,
        steps: Steps,
        blocking: Blocking[Any],
        allowed: TaskLimits,
        *,
        told: Callable[[], None] = lambda: None,
        kept: Callable[[TaskProgress], None] = lambda _progress: None,
        look: float = LOOK,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        tracer: Tracer | None = None,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._steps = steps
        self._blocking = blocking
        self._allowed = allowed
        self._told = told
        self._kept = kept
        self._look = look
        self._now = now
        self._tracer = tracer or Tracer()
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
            with self._attempt(progress.task, delivery) as span:
                await self._keep(progress)
                if not progress.ended:
                    await self._watched(progress, delivery)
                await self._say(span, found.task.task_id)
        except UnavailableError:
            # What it has kept is gone on with in the next round.
            self._resumed = False
            raise
        finally:
            self.current = None

    def _attempt(
        self, task: AgentTask, delivery: Delivery | None
    ) -> AbstractContextManager[OpenSpan]:
        """Enclose the span of an attempt."""
        asked = tracing.handed_over(task.trace_id, str(task.task_id))
        parent = tracing.parent(delivery.traceparent if delivery else "", asked)
        name = f"task {task.kind}"
        return self._tracer.span(tasks.span_of(task), name, parent=parent, kind=SpanKind.CONSUMER)

    async def _say(self, span: OpenSpan, task_id: UUID) -> None:
        """Say in its span what an attempt came to."""
        found = await self._blocking(lambda: self._ledger.load(task_id))
        if found is not None:
            task = found.task
            span.say(rave_task=task_id, rave_attempt=task.attempt, rave_status=task.status)
            if task.error:
                span.fail(task.error)

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
            # Once is enough for what clears up behind itself; it talks to no NATS.
            doing.cancel()
            await cancel([watching])
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
        patience = _Patience(self._allowed.attempts)
        try:
            async with asyncio.timeout(self._allowed.seconds):
                while progress.step is not None:
                    try:
                        progress = await self._step(progress)
                        patience.renew()
                    except (StoreUnavailableError, StreamUnavailableError, TaskFailedError):
                        raise
                    except Exception as fault:  # noqa: BLE001 - who asked hears of it, whatever it is
                        await asyncio.sleep(patience.before_another(fault, progress.step))
        except TimeoutError:
            why = f"it took longer than {self._allowed.seconds:g} s{patience.waited_for}"
            await self._give_up(progress, why)
        except TaskFailedError as fault:
            await self._give_up(progress, str(fault))

    async def _step(self, progress: TaskProgress) -> TaskProgress:
        """Carry out the next step; return how far it has come then, which is kept."""
        begun = progresses.step_begun(progress)
        with part(str(begun.step)):
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
        self._kept(progress)
        task = progress.task
        if not FOLLOWING[task.status]:
            LOG.info(
                "task %s", task.status.value,
                extra={"event_id": str(task.task_id), "trace_id": task.trace_id,
                       "why": task.error if task.status is TaskStatus.FAILED else ""},
            )  # fmt: skip
