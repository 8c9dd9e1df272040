"""An agent before a stand-in for GitLab, in memory, that can be killed at every point."""

from __future__ import annotations

import json
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from rave_platform.adapters.agents import ledger as ledgers
from rave_platform.adapters.agents.ledger import SqliteLedger
from rave_platform.adapters.agents.template import scaffold
from rave_platform.adapters.forge.gitlab import GitLabForge, GitLabSettings
from rave_platform.adapters.outgoing import SqliteOutgoing
from rave_platform.application.agents.deciding import Deciding
from rave_platform.application.agents.ports import Delivery, Written
from rave_platform.application.agents.steps import Steps
from rave_platform.application.agents.working import Working
from rave_platform.application.outbox import Outbox
from rave_platform.application.ports import StreamIdentity
from rave_platform.application.tracing import Tracer
from rave_platform.domain.agents.limits import TaskLimits
from rave_platform.domain.handover import TakenIn
from rave_platform.domain.tasks import AgentKind, AgentTask, DecisionKind, TaskDecision
from tests.unit.platform.deliveries import in_memory
from tests.unit.platform.forges.gitlab import NAMESPACE, TOKEN, GitLabStub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rave_platform.application.ports import OutgoingEvent
    from rave_platform.domain.tasks import AgentHeartbeat
    from rave_platform.domain.tracing import Span

MOMENT = datetime(2026, 11, 26, 12, tzinfo=UTC)
# As many as a test kills.
PATIENT = TaskLimits(attempts=10_000)


def task(number: int = 1, **changes: object) -> AgentTask:
    values: dict[str, Any] = {
        "task_id": UUID(int=number), "trace_id": "a" * 32, "agent": AgentKind.BACKEND_ARCHITECT,
        "project": "shop", "instruction": "Say hello", "created_at": MOMENT, **changes,
    }  # fmt: skip
    return AgentTask.model_validate(values)


def decision(kind: DecisionKind, number: int = 1, **changes: object) -> TaskDecision:
    values: dict[str, Any] = {
        "decision_uuid": UUID(int=1000 + number), "task_id": UUID(int=number),
        "trace_id": "a" * 32, "decision": kind, "by": "alice", "decided_at": MOMENT, **changes,
    }  # fmt: skip
    return TaskDecision.model_validate(values)


class KilledError(BaseException):
    """The process is gone."""


class Points:
    """Counts the points at which something is about to happen, or has; kills at one of them."""

    def __init__(self) -> None:
        self.passed, self.deadly = 0, -1

    def pass_one(self) -> None:
        self.passed += 1
        if self.passed == self.deadly:
            raise KilledError

    async def around(self, do: Callable[[], Any]) -> Any:
        """Do something between two points."""
        self.pass_one()
        done = do()
        found = await done if hasattr(done, "__await__") else done
        self.pass_one()
        return found


class MemoryStream:
    """The stream: what is asked stays until it is done, and what is told is kept."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self.connection = 1
        self.waiting: dict[str, deque[bytes]] = {"asked": deque(), "decided": deque()}
        self.told: list[dict[str, Any]] = []
        self.ids: set[str] = set()
        self.decisions: dict[UUID, TaskDecision] = {}
        self.beats: list[AgentHeartbeat] = []
        self.kept = 0

    def ask(self, found: AgentTask) -> None:
        self.ids.add(str(found.task_id))
        self.waiting["asked"].append(found.model_dump_json().encode())

    def decide(self, found: TaskDecision) -> None:
        self.ids.add(str(found.decision_uuid))
        self.decisions[found.task_id] = found
        self.waiting["decided"].append(found.model_dump_json().encode())

    async def connect(self) -> StreamIdentity:
        return StreamIdentity("one", len(self.told))

    async def publish(self, event: OutgoingEvent) -> TakenIn:
        def do() -> None:
            if event.message_id not in self.ids:
                self.ids.add(event.message_id)
                self.told.append(json.loads(event.data))

        await self.points.around(do)
        return TakenIn(len(self.told))

    async def asked(self) -> Delivery | None:
        return await self._next("asked")

    async def decided(self) -> Delivery | None:
        return await self._next("decided")

    async def _next(self, what: str) -> Delivery | None:
        waiting = self.waiting[what]
        if not waiting:
            return None

        async def keep() -> None:
            self.kept += 1

        async def done() -> None:
            await self.points.around(waiting.popleft)

        async def later(_seconds: float) -> None:
            waiting.rotate(-1)

        return Delivery(waiting[0], keep, done, later)

    async def standing(self, task_id: UUID) -> AgentTask | None:
        said = [one for one in self.told if "status" in one and one["task_id"] == str(task_id)]
        return AgentTask.model_validate(said[-1]) if said else None

    async def cancelled(self, task_id: UUID) -> TaskDecision | None:
        found = self.decisions.get(task_id)
        return found if found and found.decision is DecisionKind.CANCEL else None

    async def beat(self, beat: AgentHeartbeat) -> None:
        self.beats.append(beat)


class QuickRunner:
    """The template, without a process for its tests."""

    reads = False

    async def write(self, found: AgentTask, base: Mapping[str, bytes], budget: float) -> Written:
        del base, budget
        return Written(scaffold(found), "a few files")

    async def test(self, found: AgentTask, files: Mapping[str, bytes]) -> str:
        del found
        return f"{len(files)} passed"


class World:
    """One agent's surroundings, which outlive it."""

    def __init__(self, runner: Any = None, allowed: TaskLimits = PATIENT) -> None:
        self.points = Points()
        self.stream = MemoryStream(self.points)
        self.gitlab = GitLabStub()
        self.gitlab.checking = 0
        self.ledger = memory_ledger()
        self.runner: Any = runner or QuickRunner()
        self.allowed = allowed
        self.now = MOMENT
        self.look = 1e6
        # What was known last of each span, by its id.
        self.spans: dict[str, Span] = {}
        self.tracer = Tracer(self._keep)

    def _keep(self, span: Span) -> None:
        self.spans[span.context.span_id] = span

    async def blocking(self, call: Callable[[], Any]) -> Any:
        return await self.points.around(call)

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def forge(self) -> GitLabForge:
        settings = GitLabSettings("http://gitlab", NAMESPACE, TOKEN)
        return GitLabForge(settings, _Transport(self.gitlab, self.points))

    async def live(self) -> None:
        """Do what there is to do, as an agent that has just started."""
        forge, stream = self.forge(), self.stream
        outbox = Outbox(self.ledger.outgoing, stream, self.blocking, tracer=self.tracer)
        steps = Steps(forge, self.runner, self.allowed)
        working = Working(
            self.ledger, stream, steps, self.blocking, self.allowed, look=self.look,
            now=self.tick, tracer=self.tracer,
        )  # fmt: skip
        deciding = Deciding(
            self.ledger, stream, forge, self.blocking, look=self.look,
            now=self.tick, tracer=self.tracer,
        )  # fmt: skip
        # What was left is gone on with even where nothing is asked.
        await working.work()
        while stream.waiting["asked"]:
            await working.work()
        # Nobody decides on what was not told.
        await _all_told(outbox)
        while stream.waiting["decided"]:
            await deciding.decide()
        await _all_told(outbox)
        await forge.close()

    def statuses(self, number: int = 1) -> list[str]:
        """Return how a task stood, one after another."""
        said = [one for one in self.stream.told if one["task_id"] == str(UUID(int=number))]
        return [one.get("status") or one["decision"] for one in said]

    def last(self) -> dict[str, Any]:
        return self.stream.told[-1]


async def _all_told(outbox: Outbox) -> None:
    while await outbox.hand_over():
        pass


class _Transport(httpx.ASGITransport):
    """Requests between two points each."""

    def __init__(self, stub: GitLabStub, points: Points) -> None:
        super().__init__(stub)
        self.points = points

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        send = super().handle_async_request
        found: httpx.Response = await self.points.around(lambda: send(request))
        return found


def memory_ledger() -> SqliteLedger:
    """Return a ledger without a disk."""
    found = SqliteLedger.__new__(SqliteLedger)
    found._retention = 7 * 86400.0
    found._file = in_memory(ledgers.SCHEMA, ledgers.VERSION)
    found.outgoing = SqliteOutgoing(found._file, alone=False)
    return found
