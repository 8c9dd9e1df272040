"""What was heard in a chat, and what was decided on it, in SQLite."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Self

from rave_platform.adapters import handovers, outgoing
from rave_platform.adapters.handovers import HandoverTable
from rave_platform.adapters.outgoing import SqliteOutgoing
from rave_platform.adapters.sqlite import SqliteFile
from rave_platform.application.chat.ports import ChatFigures, PendingDeed
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain import tasks
from rave_platform.domain.chat.conversation import (
    ChatDeed,
    ChatTask,
    DeedKind,
    HeardKind,
    HeardMessage,
    Judgement,
)
from rave_platform.domain.handover import HandoverState
from rave_platform.domain.tasks import FOLLOWING, AgentTask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from rave_platform.domain.chat.conversation import ChatOutcome
    from rave_platform.domain.handover import HandoverStep
    from rave_platform.domain.tasks import DecisionOutcome

VERSION = 1

# What may wait to be decided; more is refused, and the chat brings it again.
MOST_UNDECIDED = 10_000
# Rows that one pruning removes of each table.
MOST_PRUNED = 500
DAY = 86400.0

SCHEMA = ";".join(
    (
        """CREATE TABLE heard (
  number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, at REAL NOT NULL,
  message TEXT, decided INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX heard_undecided ON heard (number) WHERE decided = 0;
CREATE INDEX heard_aging ON heard (at) WHERE decided = 1;
CREATE TABLE tasks (
  task_id TEXT PRIMARY KEY, room TEXT NOT NULL, thread TEXT NOT NULL, asked_by TEXT NOT NULL,
  task TEXT NOT NULL, ended INTEGER NOT NULL, created REAL NOT NULL,
  judgement TEXT NOT NULL DEFAULT '', judged_by TEXT NOT NULL DEFAULT ''
);
CREATE INDEX tasks_open ON tasks (room, created) WHERE ended = 0;
CREATE INDEX tasks_aging ON tasks (created) WHERE ended = 1""",
        handovers.schema("deeds", "key TEXT NOT NULL UNIQUE, at REAL NOT NULL, deed TEXT NOT NULL"),
        outgoing.SCHEMA,
    )
)


class SqliteConversations:
    """The open store: a ConversationStore. For one thread at a time."""

    def __init__(self, place: Path, retention_days: int) -> None:
        self._retention = retention_days * DAY
        self._file = SqliteFile(place, SCHEMA, VERSION)
        self._deeds = HandoverTable(self._file, "deeds")
        self.outgoing = SqliteOutgoing(self._file, alone=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._file.close()

    # --- what is heard

    def position(self) -> str:
        """Return up to where the chat was read; empty at first."""
        return self._file.fact("position") or ""

    def began(self, now: float) -> float:
        """Return when the bridge was started for the first time; now, if that is yet to come."""
        found = self._file.fact("began")
        if found is None or float(found) > now:
            with self._file.writing():
                self._file.set_fact("began", str(now))
            return now
        return float(found)

    def hear(self, heard: Sequence[HeardMessage], position: str) -> None:
        """Keep what was heard, once each, and the position, if there is one, together.

        Raises:
            StoreUnavailableError: if they are not on the disk, or too much waits.
        """
        if not heard and not position:
            return
        with self._file.writing():
            (row,) = self._file.rows("SELECT count(*) FROM heard WHERE decided = 0")
            if heard and int(row[0]) + len(heard) > MOST_UNDECIDED:
                raise StoreUnavailableError("too much that was heard waits")
            for message in heard:
                self._file.execute(
                    "INSERT INTO heard (event_id, at, message) VALUES (?, ?, ?)"
                    " ON CONFLICT DO NOTHING",
                    (message.event_id, message.at, json.dumps(asdict(message))),
                )
            if position:
                self._file.set_fact("position", position)

    def undecided(self, most: int) -> list[tuple[int, HeardMessage]]:
        """Return what is not decided, the oldest first."""
        rows = self._file.rows(
            "SELECT number, message FROM heard WHERE decided = 0 ORDER BY number LIMIT ?", (most,)
        )
        return [(number, _heard(message)) for number, message in rows]

    # --- what is decided

    def decide(self, number: int, outcome: ChatOutcome) -> None:
        """Keep what was decided on something that was heard, all of it at once."""
        with self._file.writing():
            # What it said is no longer needed: an answer names it.
            new = self._file.execute(
                "UPDATE heard SET decided = 1, message = NULL WHERE number = ? AND decided = 0",
                (number,),
            ).rowcount
            if not new:
                return
            ((at,),) = self._file.rows("SELECT at FROM heard WHERE number = ?", (number,))
            if outcome.task:
                self._put_task(outcome.task)
            if outcome.decision:
                decision = outcome.decision
                self.outgoing.put(
                    str(decision.decision_uuid), tasks.decided_subject(decision),
                    decision.model_dump_json().encode(), at,
                )  # fmt: skip
            elif outcome.task:
                asked = outcome.task.task
                self.outgoing.put(
                    str(asked.task_id), tasks.asked_subject(asked),
                    asked.model_dump_json().encode(), at,
                )  # fmt: skip
            if outcome.deed:
                self._put_deed(outcome.deed, at)

    def _put_task(self, found: ChatTask) -> None:
        task = found.task
        self._file.execute(
            "INSERT INTO tasks (task_id, room, thread, asked_by, task, ended, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                str(task.task_id), found.room, found.thread, found.asked_by,
                task.model_dump_json(), 0, task.created_at.timestamp(),
            ),
        )  # fmt: skip
        self._file.execute(
            "UPDATE tasks SET judgement = ?, judged_by = ? WHERE task_id = ?",
            (found.judgement, found.judged_by, str(task.task_id)),
        )

    def _put_deed(self, deed: ChatDeed, at: float) -> None:
        self._file.execute(
            "INSERT INTO deeds (key, at, deed) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (deed.key, at, json.dumps(asdict(deed))),
        )

    # --- tasks

    def tasks(self, room: str, task: str, most: int) -> list[ChatTask]:
        """Return the tasks of a room whose id begins so; of an empty one all that have not ended.

        The newest come first.
        """
        # People may leave out the hyphens.
        where = "replace(task_id, '-', '') LIKE :task" if task else "ended = 0"
        rows = self._file.rows(
            f"SELECT {_TASK} FROM tasks WHERE room = :room AND {where}"  # noqa: S608 - our own words
            " ORDER BY created DESC LIMIT :most",
            {"room": room, "task": task.replace("-", "") + "%", "most": most},
        )
        return [_chat_task(row) for row in rows]

    def task(self, task_id: UUID) -> ChatTask | None:
        """Return a task that was asked for in a chat."""
        rows = self._file.rows(
            f"SELECT {_TASK} FROM tasks WHERE task_id = ?",  # noqa: S608 - our own words
            (str(task_id),),
        )
        return _chat_task(rows[0]) if rows else None

    def tell(self, task: AgentTask, deed: ChatDeed) -> None:
        """Keep how a task stands, and what is said of it."""
        with self._file.writing():
            self._file.execute(
                "UPDATE tasks SET task = ?, ended = ? WHERE task_id = ?",
                (task.model_dump_json(), not FOLLOWING[task.status], str(task.task_id)),
            )
            at = (task.ended_at or task.started_at or task.created_at).timestamp()
            self._put_deed(deed, at)

    def tell_outcome(self, outcome: DecisionOutcome, deed: ChatDeed) -> None:
        """Keep what is said of a decision; what was not carried out may be decided anew."""
        with self._file.writing():
            if not outcome.done:
                self._file.execute(
                    "UPDATE tasks SET judgement = '', judged_by = '' WHERE task_id = ?",
                    (str(outcome.task_id),),
                )
            self._put_deed(deed, outcome.at.timestamp())

    def tell_merged(self, task_id: UUID, by: str, deed: ChatDeed) -> None:
        """As ConversationStore."""
        with self._file.writing():
            open_ = self._file.execute(
                "UPDATE tasks SET judgement = :approved, judged_by = :by"
                " WHERE task_id = :task AND judgement <> :approved",
                {"approved": Judgement.APPROVED, "by": by, "task": str(task_id)},
            ).rowcount
            if open_:
                self._put_deed(deed, time.time())

    # --- what is done

    def deeds(self, most: int) -> list[PendingDeed]:
        """Return what is not known to be done, the oldest first."""
        rows = self._file.rows(
            "SELECT number, deed FROM deeds WHERE state = 'accepted' ORDER BY number LIMIT ?",
            (most,),
        )
        return [PendingDeed(number, _deed(deed)) for number, deed in rows]

    def last_deed(self) -> int:
        """Return the number of the newest deed; 0 if there is none."""
        ((number,),) = self._file.rows("SELECT max(number) FROM deeds")
        return int(number or 0)

    def record_deeds(self, steps: Sequence[tuple[int, HandoverStep]]) -> None:
        """Take in what came of deeds, by their numbers."""
        self._deeds.record(steps)

    # --- upkeep

    def prune(self, now: float) -> int:
        """Remove what is older than is kept and done; return how many."""
        until = now - self._retention
        done = "state <> 'accepted' AND at < :until"
        gone = 0
        with self._file.writing():
            for table, where in (
                ("heard", "decided = 1 AND at < :until"),
                ("deeds", done),
                ("outgoing", done),
                ("tasks", "ended = 1 AND created < :until"),
            ):
                gone += self._file.execute(
                    f"DELETE FROM {table} WHERE rowid IN"  # noqa: S608 - our own words
                    f" (SELECT rowid FROM {table} WHERE {where} LIMIT {MOST_PRUNED})",
                    {"until": until},
                ).rowcount
        return gone

    def figures(self) -> ChatFigures:
        """Return the figures of the moment."""
        ((undecided, oldest),) = self._file.rows(
            "SELECT count(*), min(at) FROM heard WHERE decided = 0"
        )
        return ChatFigures(
            int(undecided),
            self._deeds.count(HandoverState.ACCEPTED),
            self._deeds.count(HandoverState.DEAD),
            self.outgoing.count(HandoverState.ACCEPTED),
            self.outgoing.count(HandoverState.DEAD),
            oldest,
            self._deeds.oldest(),
            self.outgoing.oldest(),
        )


_TASK = "task, room, thread, asked_by, judgement, judged_by"


def _chat_task(row: tuple[Any, ...]) -> ChatTask:
    task, room, thread, asked_by, judgement, judged_by = row
    return ChatTask(
        AgentTask.model_validate_json(task), room, thread, asked_by, Judgement(judgement), judged_by
    )


def _heard(message: str) -> HeardMessage:
    found = json.loads(message)
    return HeardMessage(**{**found, "kind": HeardKind(found["kind"])})


def _deed(deed: str) -> ChatDeed:
    found = json.loads(deed)
    known = {field.name for field in fields(ChatDeed)}
    return ChatDeed(
        **{**{n: v for n, v in found.items() if n in known}, "kind": DeedKind(found["kind"])}
    )
