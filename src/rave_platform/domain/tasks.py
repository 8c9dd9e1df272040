"""What an agent is to do, and how far it has come: pending → running → completed or failed."""

from __future__ import annotations

import contextlib
from datetime import datetime  # noqa: TC003 - pydantic reads it
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias
from uuid import UUID  # noqa: TC003 - pydantic reads it

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from rave_platform.domain import tracing
from rave_platform.domain.events import (  # noqa: TC001 - pydantic reads
    LongText,
    ShortText,
    SourceName,
    TraceId,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_platform.domain.tracing import TraceContext

SCHEMA_VERSION: Literal[1] = 1


class TaskStatus(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


# What may follow what. An agent that is lost puts its task back; one that never began can fail.
FOLLOWING: Mapping[TaskStatus, frozenset[TaskStatus]] = MappingProxyType(
    {
        TaskStatus.PENDING: frozenset({TaskStatus.RUNNING, TaskStatus.FAILED}),
        TaskStatus.RUNNING: frozenset(
            {TaskStatus.PENDING, TaskStatus.COMPLETED, TaskStatus.FAILED}
        ),
        TaskStatus.COMPLETED: frozenset(),
        TaskStatus.FAILED: frozenset(),
    }
)


class AgentKind(StrEnum):
    """Who can do a task."""

    BACKEND_ARCHITECT = "backend-architect"
    FRONTEND_DEVELOPER = "frontend-developer"
    AI_ENGINEER = "ai-engineer"


class TaskKind(StrEnum):
    """What kind of work a task is."""

    WORK = "work"
    CREATE_PROJECT = "create-project"


class AgentTask(BaseModel):
    """A task for an agent, as it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="of this form")
    task_id: UUID = Field(description="the same for every attempt")
    trace_id: TraceId = Field(description="of the message or event that asked for it")
    event_uuid: UUID | None = Field(default=None, description="the event that asked for it, if one")
    kind: TaskKind = Field(
        default=TaskKind.WORK,
        description="`work` on a project that is there, or `create-project`",
    )
    agent: AgentKind = Field(description="who is to do it")
    project: ShortText = Field(description="path of the project, with its namespace")
    instruction: Annotated[str, StringConstraints(min_length=1, max_length=16384)] = Field(
        description="what is to be done"
    )
    status: TaskStatus = Field(default=TaskStatus.PENDING, description="where it stands")
    attempt: int = Field(default=0, ge=0, description="how often an agent has begun it")
    created_at: datetime = Field(description="UTC")
    started_at: datetime | None = Field(default=None, description="of the last attempt, UTC")
    ended_at: datetime | None = Field(default=None, description="UTC")
    result: LongText = Field(default="", description="where what came of it can be seen")
    error: LongText = Field(default="", description="why it failed")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        over = not FOLLOWING[self.status]
        if over != (self.ended_at is not None):
            raise ValueError("a task has ended when it is completed or failed, and only then")
        if self.status is TaskStatus.RUNNING and (self.started_at is None or self.attempt == 0):
            raise ValueError("a task that runs has begun")
        if bool(self.error) and self.status is not TaskStatus.FAILED:
            raise ValueError("only a task that failed says why")
        return self


class DecisionKind(StrEnum):
    """What people decide on a task."""

    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"


class TaskDecision(BaseModel):
    """What somebody has decided on a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="of this form")
    decision_uuid: UUID = Field(description="the same for every repetition")
    task_id: UUID = Field(description="of the task")
    trace_id: TraceId = Field(description="of the message or event that asked for the task")
    decision: DecisionKind = Field(
        description="`approve` or `reject` what it came to, or `cancel` it before its end"
    )
    by: ShortText = Field(description="whose account it is, with the identity provider")
    reason: LongText = Field(default="", description="in their words, if they gave one")
    decided_at: datetime = Field(description="UTC")


class DecisionOutcome(BaseModel):
    """What came of a decision on a task that was completed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="of this form")
    decision_uuid: UUID = Field(description="of the decision")
    task_id: UUID = Field(description="of the task")
    trace_id: TraceId = Field(description="of the message or event that asked for the task")
    decision: DecisionKind = Field(description="what was decided")
    done: bool = Field(description="whether it was carried out; otherwise it may be decided anew")
    text: LongText = Field(description="what came of it, or why it was not carried out")
    at: datetime = Field(description="UTC")


class AgentHeartbeat(BaseModel):
    """A sign of life of an agent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = Field(default=SCHEMA_VERSION, description="of this form")
    agent: AgentKind = Field(description="what it can do")
    instance: SourceName = Field(description="its name among those that can do the same")
    task_id: UUID | None = Field(default=None, description="the task that it works on, if one")
    at: datetime = Field(description="UTC")


# What goes over the stream of tasks.
SaidOfTask: TypeAlias = AgentTask | TaskDecision | DecisionOutcome


def read(data: bytes) -> SaidOfTask | None:
    """Return what a message of the stream of tasks says; None if it is none."""
    for model in (AgentTask, TaskDecision, DecisionOutcome):
        with contextlib.suppress(ValidationError):
            return model.model_validate_json(data)
    return None


def span_of(said: SaidOfTask) -> TraceContext:
    """Return the span of which a message comes: of a task that is not begun, the command that asked
    for it; of one that is, its attempt; of a decision, the command; of what came of it, that.
    """
    match said:
        case AgentTask():
            return tracing.named(said.trace_id, said.task_id, said.attempt)
        case TaskDecision():
            return tracing.named(said.trace_id, said.decision_uuid, "decided")
        case DecisionOutcome():
            return tracing.named(said.trace_id, said.decision_uuid, "carried-out")


def asked_subject(task: AgentTask) -> str:
    """Return where a task is published for agents: `rave.tasks.v1.asked.AGENT.TASK`."""
    return f"rave.tasks.v{task.schema_version}.asked.{task.agent}.{task.task_id}"


def decided_subject(decision: TaskDecision) -> str:
    """Return where a decision is published: `rave.tasks.v1.decided.TASK.DECISION`."""
    version = f"rave.tasks.v{decision.schema_version}"
    return f"{version}.decided.{decision.task_id}.{decision.decision_uuid}"


def told_subject(task: AgentTask) -> str:
    """Return where an agent says how a task stands: `rave.tasks.v1.told.TASK`."""
    return f"rave.tasks.v{task.schema_version}.told.{task.task_id}"


def outcome_subject(outcome: DecisionOutcome) -> str:
    """Return where an agent says what came of a decision: `rave.tasks.v1.told.TASK.DECISION`."""
    version = f"rave.tasks.v{outcome.schema_version}"
    return f"{version}.told.{outcome.task_id}.{outcome.decision_uuid}"


def heartbeat_subject(beat: AgentHeartbeat) -> str:
    """Return where an agent gives a sign of life: `rave.agents.v1.AGENT.INSTANCE`."""
    return f"rave.agents.v{beat.schema_version}.{beat.agent}.{beat.instance}"


def started(task: AgentTask, at: datetime) -> AgentTask:
    """Return a task that an agent begins.

    Raises:
        ValueError: if it is not pending.
    """
    return _moved(task, TaskStatus.RUNNING, started_at=at, attempt=task.attempt + 1)


def put_back(task: AgentTask) -> AgentTask:
    """Return a task whose agent was lost.

    Raises:
        ValueError: if it does not run.
    """
    return _moved(task, TaskStatus.PENDING, started_at=None)


def completed(task: AgentTask, at: datetime, result: str) -> AgentTask:
    """Return a task that is done.

    Raises:
        ValueError: if it does not run.
    """
    return _moved(task, TaskStatus.COMPLETED, ended_at=at, result=result)


def failed(task: AgentTask, at: datetime, error: str) -> AgentTask:
    """Return a task that will not be done.

    Raises:
        ValueError: if it has ended, or `error` is empty.
    """
    if not error:
        raise ValueError("a task that failed says why")
    return _moved(task, TaskStatus.FAILED, ended_at=at, error=error)


def _moved(task: AgentTask, status: TaskStatus, **changes: object) -> AgentTask:
    if status not in FOLLOWING[task.status]:
        raise ValueError(f"a task that is {task.status} cannot be {status}")
    return AgentTask.model_validate({**task.model_dump(), "status": status, **changes})
