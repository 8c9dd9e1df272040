"""Carries out what people decide on a task that was completed: merges it, or closes it.

Whichever agent is free does it: what is needed follows from the task. Whether a task that has not
ended is cancelled its own agent looks itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rave_platform.application.agents.ports import LOOK
from rave_platform.application.cancelling import cancel
from rave_platform.application.forge import ForgeRefusedError, ForgeUnavailableError
from rave_platform.application.ports import StreamUnavailableError
from rave_platform.application.rounds import Rounds
from rave_platform.application.tracing import Tracer
from rave_platform.domain import tasks, tracing
from rave_platform.domain.agents import wording
from rave_platform.domain.tasks import (
    DecisionKind,
    DecisionOutcome,
    TaskDecision,
    TaskKind,
    TaskStatus,
)
from rave_platform.domain.tracing import SpanKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.application.agents.ports import Delivery, TaskLedger, TaskQueue
    from rave_platform.application.forge import Forge
    from rave_platform.application.ports import Blocking
    from rave_platform.domain.tasks import AgentTask

LOG = logging.getLogger(__name__)

# Seconds until a decision is tried again for which the forge was not there.
AGAIN = 5.0


class Deciding:
    """Decides while `run` runs; `told` is called whenever there is something to tell, and `decided`
    with what came of a decision.
    """

    def __init__(
        self,
        ledger: TaskLedger,
        queue: TaskQueue,
        forge: Forge,
        blocking: Blocking[Any],
        *,
        told: Callable[[], None] = lambda: None,
        decided: Callable[[DecisionOutcome], None] = lambda _outcome: None,
        look: float = LOOK,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        tracer: Tracer | None = None,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._forge = forge
        self._blocking = blocking
        self._told = told
        self._decided = decided
        self._look = look
        self._now = now
        self._tracer = tracer or Tracer()
        self._rounds = Rounds(self.decide, "decisions wait")

    async def run(self) -> None:
        """Decide, until cancelled."""
        await self._rounds.run()

    async def decide(self) -> int:
        """Carry out one decision, if there is one.

        Raises:
            UnavailableError: if something is not there now.
        """
        delivery = await self._queue.decided()
        if delivery is None:
            # The queue has waited already.
            return 1
        try:
            decision = TaskDecision.model_validate_json(delivery.data)
        except ValidationError:
            LOG.warning("somebody decided something else than on a task")
            await delivery.done()
            return 1
        if decision.decision is not DecisionKind.CANCEL and not await self._known(decision):
            try:
                outcome = await self._kept(decision, delivery)
            except ForgeUnavailableError as fault:
                await delivery.later(fault.retry_after or AGAIN)
                raise
            await self._blocking(lambda: self._ledger.keep_outcome(outcome))
            self._told()
            self._decided(outcome)
        await delivery.done()
        return 1

    async def _kept(self, decision: TaskDecision, delivery: Delivery) -> DecisionOutcome:
        """Have no other agent begin with it, too, while a forge takes its time."""
        keeping = asyncio.create_task(self._keep(delivery))
        try:
            return await self._outcome(decision, delivery.traceparent)
        finally:
            await cancel([keeping])

    async def _keep(self, delivery: Delivery) -> None:
        while True:
            await asyncio.sleep(self._look)
            with contextlib.suppress(StreamUnavailableError):
                await delivery.keep()

    async def _known(self, decision: TaskDecision) -> bool:
        found = await self._blocking(lambda: self._ledger.knows_outcome(decision.decision_uuid))
        return bool(found)

    async def _outcome(self, decision: TaskDecision, said: str) -> DecisionOutcome:
        name = str(decision.decision_uuid)
        asked = tracing.parent(said, tracing.handed_over(decision.trace_id, name))
        context = tasks.span_of(self._came(decision, done=False, text=""))
        with self._tracer.span(
            context, str(decision.decision), parent=asked, kind=SpanKind.CONSUMER
        ) as span:
            span.say(rave_task=decision.task_id)
            task = await self._queue.standing(decision.task_id)
            try:
                done, text = await self._carried_out(decision, task)
            except ForgeRefusedError as fault:
                done, text = False, f"it was not done: {fault}"
            if not done:
                span.fail(text)
        return self._came(decision, done=done, text=text)

    def _came(self, decision: TaskDecision, *, done: bool, text: str) -> DecisionOutcome:
        return DecisionOutcome(
            decision_uuid=decision.decision_uuid, task_id=decision.task_id,
            trace_id=decision.trace_id, decision=decision.decision, done=done, text=text[:4096],
            at=self._now(),
        )  # fmt: skip

    async def _carried_out(
        self, decision: TaskDecision, task: AgentTask | None
    ) -> tuple[bool, str]:
        if task is None or task.status is not TaskStatus.COMPLETED:
            return False, "no agent has completed the task"
        if task.kind is TaskKind.CREATE_PROJECT:
            return True, "a project was made; there is nothing to merge"
        request = await self._forge.merge_request(task.project, wording.branch(task))
        if request is None:
            return False, "its merge request is gone"
        await self._forge.comment(task.project, request.number, wording.verdict(decision))
        if decision.decision is DecisionKind.APPROVE:
            await self._forge.merge(task.project, request)
            return True, f"merged: {request.url}"
        await self._forge.close_merge_request(task.project, request.number)
        return True, f"closed without being merged: {request.url}"
