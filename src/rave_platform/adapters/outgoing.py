"""What goes from a store to the stream of tasks: one message each, known by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_platform.adapters import handovers
from rave_platform.adapters.handovers import HandoverTable
from rave_platform.application.ports import OutgoingEvent
from rave_platform.domain import tasks

if TYPE_CHECKING:
    from rave_platform.adapters.sqlite import SqliteFile
    from rave_platform.domain.tracing import TraceContext

SCHEMA = handovers.schema(
    "outgoing",
    "message_id TEXT NOT NULL UNIQUE, at REAL NOT NULL, subject TEXT NOT NULL, data BLOB NOT NULL",
)


class SqliteOutgoing(HandoverTable):
    """An OutgoingStore; `alone` if each message has a subject of its own."""

    def __init__(self, file: SqliteFile, *, alone: bool) -> None:
        super().__init__(file, "outgoing")
        self._alone = alone

    def put(self, message_id: str, subject: str, data: bytes, at: float) -> None:
        """Have something handed over, within a transaction."""
        self._file.execute(
            "INSERT INTO outgoing (message_id, at, subject, data) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (message_id, at, subject, data),
        )

    def holds(self, message_id: str) -> bool:
        """Return whether something was put there by this id."""
        return bool(self._file.rows("SELECT 1 FROM outgoing WHERE message_id = ?", (message_id,)))

    def due(self, most: int) -> list[OutgoingEvent]:
        """Return what the stream does not have, the oldest first, and the oldest of each subject.

        What is due is handed over at once: what has the same subject must come one by one, since
        the last of them counts.
        """
        rows = self._file.rows(
            "SELECT min(number), subject, message_id, data FROM outgoing WHERE state = 'accepted'"
            " GROUP BY subject ORDER BY 1 LIMIT ?",
            (most,),
        )
        return [
            OutgoingEvent(number, subject, name, data, alone=self._alone, cause=_cause(data))
            for number, subject, name, data in rows
        ]


def _cause(data: bytes) -> TraceContext | None:
    said = tasks.read(data)
    return tasks.span_of(said) if said else None
