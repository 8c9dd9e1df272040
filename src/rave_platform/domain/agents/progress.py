"""How far a task has come: a step after another, each with an outcome that is kept before the next.

An agent that is lost goes on behind the last outcome. A step that was begun and has none is begun
again, so each must come to the same twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rave_platform.domain import tasks
from rave_platform.domain.tasks import FOLLOWING, AgentTask, TaskKind, TaskStatus

if TYPE_CHECKING:
    from datetime import datetime


class StepName(StrEnum):
    """What is done, one after another."""

    CREATE = "create"  # the project
    PROJECT = "project"  # found, with its default branch
    WRITE = "write"  # the files
    TEST = "test"
    BRANCH = "branch"
    COMMIT = "commit"
    REQUEST = "request"  # that it be merged
    STATUS = "status"  # of the tests, said beside the request


PLANS: Mapping[TaskKind, tuple[StepName, ...]] = MappingProxyType(
    {
        TaskKind.CREATE_PROJECT: (StepName.CREATE,),
        TaskKind.WORK: (
            StepName.PROJECT, StepName.WRITE, StepName.TEST, StepName.BRANCH, StepName.COMMIT,
            StepName.REQUEST, StepName.STATUS,
        ),
    }
)  # fmt: skip
# The step whose outcome says where people can look at what was done.
SHOWN: Mapping[TaskKind, StepName] = MappingProxyType(
    {TaskKind.CREATE_PROJECT: StepName.CREATE, TaskKind.WORK: StepName.REQUEST}
)

# What a step came to, as JSON has it; `url` is where people can look at it.
StepOutcome = Mapping[str, Any]
NOTHING: Mapping[StepName, Any] = MappingProxyType({})

# Characters of what is said of a failure.
LONGEST_ERROR = 2000


@dataclass(frozen=True)
class TaskProgress:
    """A task, what its steps came to, and how often each was begun."""

    task: AgentTask
    outcomes: Mapping[StepName, StepOutcome] = field(default_factory=lambda: NOTHING)
    begun: Mapping[StepName, int] = field(default_factory=lambda: NOTHING)

    @property
    def plan(self) -> tuple[StepName, ...]:
        """Return the steps of the task."""
        return PLANS[self.task.kind]

    @property
    def ended(self) -> bool:
        """Return whether nothing is left to do."""
        return not FOLLOWING[self.task.status]

    @property
    def step(self) -> StepName | None:
        """Return the step that is next; None if the task does not run."""
        if self.task.status is not TaskStatus.RUNNING:
            return None
        return next((step for step in self.plan if step not in self.outcomes), None)


def taken(before: TaskProgress, at: datetime, most: int) -> TaskProgress:
    """Return a task that an agent begins, or goes on with after one was lost.

    It fails where its next step was begun `most` times and never ended: whatever that does to the
    agent, it would do it again.

    Raises:
        ValueError: if it has ended.
    """
    waiting = before
    if before.task.status is TaskStatus.RUNNING:
        waiting = replace(before, task=tasks.put_back(before.task))
    running = replace(waiting, task=tasks.started(waiting.task, at))
    step = running.step
    if step is not None and running.begun.get(step, 0) >= most:
        return given_up(running, at, f"its agent was lost {most} times at the step {step}")
    return running


def step_begun(before: TaskProgress) -> TaskProgress:
    """Return a task whose next step is begun.

    Raises:
        ValueError: if there is none.
    """
    step = _step(before)
    return replace(before, begun={**before.begun, step: before.begun.get(step, 0) + 1})


def step_done(before: TaskProgress, outcome: StepOutcome, at: datetime) -> TaskProgress:
    """Return a task whose step has come to something; after the last one it is completed.

    Raises:
        ValueError: if no step was begun.
    """
    step = _step(before)
    if step not in before.begun:
        raise ValueError(f"the step {step} was not begun")
    after = replace(before, outcomes={**before.outcomes, step: outcome})
    if after.step is not None:
        return after
    shown = after.outcomes[SHOWN[after.task.kind]]
    return replace(after, task=tasks.completed(after.task, at, str(shown["url"])))


def given_up(before: TaskProgress, at: datetime, why: str) -> TaskProgress:
    """Return a task that will not be done.

    Raises:
        ValueError: if it has ended.
    """
    return replace(before, task=tasks.failed(before.task, at, why.strip()[:LONGEST_ERROR]))


def _step(progress: TaskProgress) -> StepName:
    if progress.step is None:
        raise ValueError("there is no step to do")
    return progress.step
