"""How far what a store hands over has come: the columns of a table, moved as the domain says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_platform.domain.handover import Handover, HandoverState, LostByStream, advance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_platform.adapters.sqlite import SqliteFile
    from rave_platform.application.ports import StreamIdentity
    from rave_platform.domain.handover import HandoverStep

COLUMNS = "state, refusals, replays, sequence, why"
DEFINITIONS = (
    "state TEXT NOT NULL DEFAULT 'accepted', refusals INTEGER NOT NULL DEFAULT 0,"
    " replays INTEGER NOT NULL DEFAULT 0, sequence INTEGER, why TEXT NOT NULL DEFAULT ''"
)


def schema(table: str, columns: str) -> str:
    """Return the statements that make a table with a `number`, these columns and a handover."""
    return f"""
CREATE TABLE {table} (number INTEGER PRIMARY KEY AUTOINCREMENT, {columns}, {DEFINITIONS});
CREATE INDEX {table}_waiting ON {table} (number) WHERE state = 'accepted';
CREATE INDEX {table}_dead ON {table} (number) WHERE state = 'dead';
CREATE INDEX {table}_published ON {table} (sequence) WHERE state = 'published'"""


class HandoverTable:
    """A table whose rows are handed over."""

    def __init__(self, file: SqliteFile, table: str) -> None:
        self._file = file
        self._table = table

    def record(self, steps: Sequence[tuple[int, HandoverStep]]) -> None:
        """Take in what happened to rows, by their numbers."""
        # What a power cut takes back of this is handed over again, under the same name: no sync,
        # for which whoever is waiting for an answer would have to wait.
        with self._file.unsynced(), self._file.writing():
            for number, step in steps:
                self.advance("number = ?", number, step)

    def agree(self, stream: StreamIdentity) -> int | None:
        """Put back what a stream has lost; return how many, or None if it is another stream."""
        with self._file.writing():
            before = self._file.fact("stream")
            self._file.set_fact("stream", stream.created)
            if before is not None and before != stream.created:
                return None
            lost = self._file.rows(
                f"SELECT number FROM {self._table} WHERE state = 'published' AND sequence > ?",  # noqa: S608 - our own words
                (stream.last_sequence,),
            )
            for (number,) in lost:
                self.advance("number = ?", number, LostByStream())
        return len(lost)

    def advance(self, where: str, value: object, step: HandoverStep) -> bool:
        """Move one row, within a transaction; return whether that changes it."""
        found = self._file.rows(
            f"SELECT {COLUMNS} FROM {self._table} WHERE {where}",  # noqa: S608 - our own words
            (value,),
        )
        if not found:
            return False
        before = read(found[0])
        after = advance(before, step)
        if after == before:
            return False
        self._file.execute(
            f"UPDATE {self._table} SET state = ?, refusals = ?, replays = ?, sequence = ?, why = ?"  # noqa: S608
            f" WHERE {where}",
            (after.state, after.refusals, after.replays, after.sequence, after.why, value),
        )
        return True

    def oldest(self) -> float | None:
        """Return the moment (`at`) of what has waited for longest; None if nothing waits."""
        rows = self._file.rows(
            f"SELECT at FROM {self._table} WHERE state = 'accepted' ORDER BY number LIMIT 1"  # noqa: S608 - our own words
        )
        return float(rows[0][0]) if rows else None

    def count(self, state: HandoverState) -> int:
        """Return how many rows have come to a state."""
        # The state stands in the words: by a value of a statement no partial index is found.
        (row,) = self._file.rows(
            f"SELECT count(*) FROM {self._table} WHERE state = '{state}'"  # noqa: S608 - our own words
        )
        return int(row[0])


def read(row: Sequence[Any]) -> Handover:
    """Return what COLUMNS say."""
    state, refusals, replays, sequence, why = row
    return Handover(HandoverState(state), refusals, replays, sequence, why)
