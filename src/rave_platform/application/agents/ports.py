"""What an agent needs of the world besides a forge; adapters fill it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rave_platform.application.ports import AgingStore, OutgoingStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from rave_platform.domain.agents.progress import TaskProgress
    from rave_platform.domain.tasks import (
        AgentHeartbeat,
        AgentTask,
        DecisionOutcome,
        TaskDecision,
    )


# Seconds between two looks whether a task is still wanted, and until the stream is told again that
# something is worked on: a part of what it waits before it brings it to another agent.
LOOK = 5.0


class TaskFailedError(Exception):
    """A task cannot be done, however often it is tried: why, for whoever asked for it."""


@dataclass(frozen=True)
class Delivery:
    """A message of the stream, which brings it again until it is told that it is done."""

    data: bytes
    keep: Callable[[], Awaitable[None]]  # it is being worked on
    done: Callable[[], Awaitable[None]]
    later: Callable[[float], Awaitable[None]]  # seconds
    traceparent: str = ""  # what it says of its trace


@dataclass(frozen=True)
class Written:
    """What a runner wrote, how it sums it up, and what it cost in US dollars."""

    files: Mapping[str, bytes]
    summary: str
    cost: float = 0.0


class TaskQueue(Protocol):
    """What is asked and decided, in the stream. Every method raises StreamUnavailableError."""

    async def asked(self) -> Delivery | None:
        """Wait a moment for a task; return it."""

    async def decided(self) -> Delivery | None:
        """Wait a moment for a decision; return it."""

    async def standing(self, task_id: UUID) -> AgentTask | None:
        """Return how a task stands, as an agent said last; None if none said anything."""

    async def cancelled(self, task_id: UUID) -> TaskDecision | None:
        """Return the decision that a task is no longer wanted, if there is one."""

    async def beat(self, beat: AgentHeartbeat) -> None:
        """Give a sign of life."""


class TaskLedger(AgingStore, Protocol):
    """How far tasks have come. What was kept is on the disk on return.

    Every method raises StoreUnavailableError.
    """

    @property
    def outgoing(self) -> OutgoingStore:
        """Return what is said of tasks, on its way to the stream."""

    def load(self, task_id: UUID) -> TaskProgress | None:
        """Return how far a task has come; None if it was never taken."""

    def unfinished(self) -> Sequence[TaskProgress]:
        """Return the tasks that run, the oldest first."""

    def keep(self, progress: TaskProgress) -> None:
        """Keep how far a task has come and have it told if it stands otherwise, together."""

    def keep_outcome(self, outcome: DecisionOutcome) -> None:
        """Keep what came of a decision and have it told, once."""

    def knows_outcome(self, decision_uuid: UUID) -> bool:
        """Return whether it is known what came of a decision."""


class Runner(Protocol):
    """Does what an instruction says, in files."""

    @property
    def reads(self) -> bool:
        """Return whether it needs the files of the project."""

    async def write(self, task: AgentTask, base: Mapping[str, bytes], budget: float) -> Written:
        """Return what is to be written.

        Args:
            task: what is to be done.
            base: the files of the project, if it reads them.
            budget: what it may cost, in US dollars.

        Raises:
            TaskFailedError: if it cannot be done.
        """

    async def test(self, task: AgentTask, files: Mapping[str, bytes]) -> str:
        """Run the tests of what was written; return what they say.

        Raises:
            TaskFailedError: if they fail.
        """
