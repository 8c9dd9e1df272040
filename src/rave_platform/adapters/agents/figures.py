"""What Prometheus reads of an agent: rate, errors and duration of its tasks, and whether it is
heard. Written here: the client library would be a tenth of an idle agent's memory.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from rave_platform.domain.tasks import FOLLOWING, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from rave_platform.domain.agents.progress import TaskProgress
    from rave_platform.domain.tasks import AgentKind, DecisionOutcome

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds of a task; the longest one may take is 900.
BUCKETS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0)
ENDS = (TaskStatus.COMPLETED, TaskStatus.FAILED)


class AgentFigures:
    """The figures of one agent since its start."""

    def __init__(self, agent: AgentKind, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._monotonic = monotonic
        self._tasks = dict.fromkeys(["started", *ENDS], 0)
        self._decisions: dict[tuple[str, str], int] = {}
        self._buckets = dict.fromkeys([*BUCKETS, math.inf], 0)
        self._seconds = 0.0
        self._under_way: tuple[UUID, float] | None = None
        self._heard = monotonic()

    def kept(self, progress: TaskProgress) -> None:
        """Count a task by how it stands; what is kept of it between two steps counts nothing."""
        task = progress.task
        begun = self._under_way
        if task.status is TaskStatus.RUNNING and (begun is None or begun[0] != task.task_id):
            self._tasks["started"] += 1
            self._under_way = (task.task_id, self._monotonic())
        if not FOLLOWING[task.status]:
            self._tasks[task.status] += 1
            if begun is not None and begun[0] == task.task_id:
                self._took(self._monotonic() - begun[1])
            self._under_way = None

    def decided(self, outcome: DecisionOutcome) -> None:
        """Count what came of a decision."""
        key = (outcome.decision.value, "done" if outcome.done else "refused")
        self._decisions[key] = self._decisions.get(key, 0) + 1

    def beaten(self) -> None:
        """Take note that the stream took a sign of life."""
        self._heard = self._monotonic()

    def _took(self, seconds: float) -> None:
        self._seconds += seconds
        for bound in self._buckets:
            self._buckets[bound] += seconds <= bound

    def page(self, *, stream: bool, waiting: int, unfinished: int) -> bytes:
        """Return the page of the moment.

        Args:
            stream: whether the stream can be asked.
            waiting: what is to be told and the stream does not have.
            unfinished: tasks that have begun and not ended.
        """
        return "".join(
            f"{line}\n"
            for part in (
                self._counted(),
                self._histogram(),
                self._gauge("stream_connected", "Whether the stream can be asked", int(stream)),
                self._gauge(
                    "silent_seconds", "Since the stream last took a sign of life",
                    round(self._monotonic() - self._heard, 3),
                ),
                self._gauge("waiting", "What is said of tasks and not handed over", waiting),
                self._gauge("unfinished", "Tasks that have begun and not ended", unfinished),
            )
            for line in part
        ).encode()  # fmt: skip

    def _counted(self) -> Iterator[str]:
        yield from _head("tasks_total", "Tasks by what became of them", "counter")
        for what, count in self._tasks.items():
            yield f'rave_agent_tasks_total{{agent="{self._agent}",status="{what}"}} {count}'
        yield from _head("decisions_total", "Decisions by what came of them", "counter")
        for (decision, result), count in sorted(self._decisions.items()):
            labels = f'agent="{self._agent}",decision="{decision}",result="{result}"'
            yield f"rave_agent_decisions_total{{{labels}}} {count}"

    def _histogram(self) -> Iterator[str]:
        name = "task_duration_seconds"
        yield from _head(name, "Time from a task's begin to its end", "histogram")
        for bound, count in self._buckets.items():
            shown = "+Inf" if math.isinf(bound) else f"{bound:g}"
            yield f'rave_agent_{name}_bucket{{agent="{self._agent}",le="{shown}"}} {count}'
        yield f'rave_agent_{name}_sum{{agent="{self._agent}"}} {self._seconds:g}'
        yield f'rave_agent_{name}_count{{agent="{self._agent}"}} {self._buckets[math.inf]}'

    def _gauge(self, name: str, about: str, value: float) -> Iterator[str]:
        yield from _head(name, about, "gauge")
        yield f'rave_agent_{name}{{agent="{self._agent}"}} {value}'


def _head(name: str, about: str, kind: str) -> tuple[str, str]:
    return f"# HELP rave_agent_{name} {about}", f"# TYPE rave_agent_{name} {kind}"
