"""How far tasks have come, in SQLite."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

from rave_platform.adapters import outgoing
from rave_platform.adapters.outgoing import SqliteOutgoing
from rave_platform.adapters.sqlite import SqliteFile
from rave_platform.domain import tasks
from rave_platform.domain.agents.progress import StepName, TaskProgress
from rave_platform.domain.handover import HandoverState
from rave_platform.domain.tasks import AgentTask

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from rave_platform.domain.tasks import DecisionOutcome

VERSION = 1
DAY = 86400.0
# Rows that one pruning removes of each table.
MOST_PRUNED = 500

SCHEMA = ";".join(
    (
        """CREATE TABLE tasks (
  task_id TEXT PRIMARY KEY, task TEXT NOT NULL, ended INTEGER NOT NULL, created REAL NOT NULL
);
CREATE INDEX tasks_open ON tasks (created) WHERE ended = 0;
CREATE INDEX tasks_aging ON tasks (created) WHERE ended = 1;
CREATE TABLE steps (
  task_id TEXT NOT NULL, name TEXT NOT NULL,
  begun INTEGER NOT NULL, outcome TEXT, PRIMARY KEY (task_id, name)
) WITHOUT ROWID""",
        outgoing.SCHEMA,
    )
)


class SqliteLedger:
    """The open store: a TaskLedger. For one thread at a time."""

    def __init__(self, place: Path, retention_days: int) -> None:
        self._retention = retention_days * DAY
        self._file = SqliteFile(place, SCHEMA, VERSION)
        self.outgoing = SqliteOutgoing(self._file, alone=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._file.close()

    def load(self, task_id: UUID) -> TaskProgress | None:
        """Return how far a task has come; None if it was never taken."""
        rows = self._file.rows("SELECT task FROM tasks WHERE task_id = ?", (str(task_id),))
        return self._progress(rows[0][0]) if rows else None

    def unfinished(self) -> list[TaskProgress]:
        """Return the tasks that run, the oldest first."""
        rows = self._file.rows("SELECT task FROM tasks WHERE ended = 0 ORDER BY created")
        return [self._progress(task) for (task,) in rows]

    def _progress(self, document: str) -> TaskProgress:
        task = AgentTask.model_validate_json(document)
        rows = self._file.rows(
            "SELECT name, begun, outcome FROM steps WHERE task_id = ?", (str(task.task_id),)
        )
        return TaskProgress(
            task,
            {StepName(name): json.loads(outcome) for name, _, outcome in rows if outcome},
            {StepName(name): begun for name, begun, _ in rows},
        )

    def figures(self) -> tuple[int, int]:
        """Return how much waits to be told, and how many tasks have begun and not ended."""
        ((unfinished,),) = self._file.rows("SELECT count(*) FROM tasks WHERE ended = 0")
        return self.outgoing.count(HandoverState.ACCEPTED), int(unfinished)

    def keep(self, progress: TaskProgress) -> None:
        """Keep how far a task has come and have it told if it stands otherwise, together."""
        task, name = progress.task, str(progress.task.task_id)
        document = task.model_dump_json()
        with self._file.writing():
            before = self._file.rows("SELECT task FROM tasks WHERE task_id = ?", (name,))
            self._file.execute(
                "INSERT INTO tasks VALUES (?, ?, ?, ?) ON CONFLICT (task_id) DO UPDATE SET"
                " task = excluded.task, ended = excluded.ended",
                (name, document, progress.ended, task.created_at.timestamp()),
            )
            self._keep_steps(name, progress)
            if [(document,)] != before:
                at = (task.ended_at or task.started_at or task.created_at).timestamp()
                self.outgoing.put(
                    f"{name}.{task.attempt}.{task.status}", tasks.told_subject(task),
                    document.encode(), at,
                )  # fmt: skip

    def _keep_steps(self, task_id: str, progress: TaskProgress) -> None:
        # What a step came to may be large, and is written once.
        rows = self._file.rows(
            "SELECT name FROM steps WHERE task_id = ? AND outcome IS NOT NULL", (task_id,)
        )
        kept = {name for (name,) in rows}
        for step, begun in progress.begun.items():
            if step not in kept:
                outcome = progress.outcomes.get(step)
                self._file.execute(
                    "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?)",
                    (task_id, step, begun, None if outcome is None else json.dumps(dict(outcome))),
                )

    def keep_outcome(self, outcome: DecisionOutcome) -> None:
        """Keep what came of a decision and have it told, once."""
        with self._file.writing():
            self.outgoing.put(
                _outcome_id(outcome.decision_uuid), tasks.outcome_subject(outcome),
                outcome.model_dump_json().encode(), outcome.at.timestamp(),
            )  # fmt: skip

    def knows_outcome(self, decision_uuid: UUID) -> bool:
        """Return whether it is known what came of a decision."""
        return self.outgoing.holds(_outcome_id(decision_uuid))

    def prune(self, now: float) -> int:
        """Remove what is older than is kept and done; return how many."""
        until = now - self._retention
        gone = 0
        with self._file.writing():
            for table, key, where in (
                ("tasks", "task_id", "ended = 1 AND created < :until"),
                ("outgoing", "number", "state <> 'accepted' AND at < :until"),
            ):
                gone += self._file.execute(
                    f"DELETE FROM {table} WHERE {key} IN"  # noqa: S608 - our own words
                    f" (SELECT {key} FROM {table} WHERE {where} LIMIT {MOST_PRUNED})",
                    {"until": until},
                ).rowcount
            self._file.execute("DELETE FROM steps WHERE task_id NOT IN (SELECT task_id FROM tasks)")
        return gone


def _outcome_id(decision_uuid: UUID) -> str:
    """Return the id of what is told: in the stream the decision has its own already."""
    return f"{decision_uuid}.outcome"
