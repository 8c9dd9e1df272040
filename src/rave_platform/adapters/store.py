"""Accepted events in SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rave_platform.adapters import handovers
from rave_platform.adapters.handovers import HandoverTable
from rave_platform.adapters.sqlite import SqliteFile
from rave_platform.application.ports import (
    KeptEvent,
    OutgoingEvent,
    StoredEvent,
    StoreFigures,
    StoreUnavailableError,
)
from rave_platform.domain import handover
from rave_platform.domain.events import WebhookEvent, message, span_of, subject
from rave_platform.domain.handover import HandoverState, Replayed, message_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from rave_platform.application.ports import StreamIdentity
    from rave_platform.domain.handover import HandoverStep
    from rave_platform.domain.normalisation import WebhookDelivery

VERSION = 1

# Events that may wait for the stream; more are refused, which is better than a full disk.
MOST_WAITING = 100_000
# Rows that one pruning removes of each table.
MOST_PRUNED = 500
DAY = 86400.0

SCHEMA = """
CREATE TABLE events (
  number INTEGER PRIMARY KEY AUTOINCREMENT, event_uuid TEXT NOT NULL UNIQUE,
  source TEXT NOT NULL, kept_from REAL NOT NULL, event TEXT NOT NULL, body BLOB NOT NULL,
  state TEXT NOT NULL, refusals INTEGER NOT NULL, replays INTEGER NOT NULL,
  sequence INTEGER, why TEXT NOT NULL
);
CREATE INDEX events_waiting ON events (number) WHERE state = 'accepted';
CREATE INDEX events_dead ON events (number) WHERE state = 'dead';
CREATE INDEX events_aging ON events (kept_from) WHERE state <> 'accepted';
CREATE INDEX events_published ON events (sequence) WHERE state = 'published';
CREATE TABLE known (
  source TEXT NOT NULL, identity TEXT NOT NULL, event_uuid TEXT NOT NULL, since REAL NOT NULL,
  PRIMARY KEY (source, identity)
) WITHOUT ROWID;
CREATE INDEX known_aging ON known (since)
"""


class SqliteEvents:
    """The open store: an EventStore and an EventArchive. For one thread at a time."""

    def __init__(
        self, place: Path, retention_days: int, most_waiting: int = MOST_WAITING,
        *, create: bool = True,
    ) -> None:  # fmt: skip
        self._retention = retention_days * DAY
        self._most_waiting = most_waiting
        self._file = SqliteFile(place, SCHEMA, VERSION, create=create)
        self._handovers = HandoverTable(self._file, "events")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._file.close()

    # --- what the dispatcher does

    def add(self, deliveries: Sequence[WebhookDelivery], now: float) -> list[StoredEvent]:
        """Take in deliveries, all or none.

        Raises:
            StoreUnavailableError: if they are not on the disk, or too many wait.
        """
        with self._file.writing():
            if self._handovers.count(HandoverState.ACCEPTED) + len(deliveries) > self._most_waiting:
                raise StoreUnavailableError("too many events wait for the stream")
            kept_from = max(now, self._aged() or now)
            return [self._add(delivery, kept_from) for delivery in deliveries]

    def _add(self, delivery: WebhookDelivery, kept_from: float) -> StoredEvent:
        event = delivery.event
        name = str(event.event_uuid)
        new = self._file.execute(
            "INSERT INTO known VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (event.source, delivery.identity, name, kept_from),
        ).rowcount
        if not new:
            return StoredEvent(event.event_uuid, new=False)
        self._file.execute(
            "INSERT INTO events (event_uuid, source, kept_from, event, body, state, refusals,"
            " replays, why) VALUES (?, ?, ?, ?, ?, 'accepted', 0, 0, '') ON CONFLICT DO NOTHING",
            (name, event.source, kept_from, event.model_dump_json(), delivery.body),
        )
        return StoredEvent(event.event_uuid, new=True)

    def due(self, most: int) -> list[OutgoingEvent]:
        """Return events that the stream does not have, the oldest first."""
        rows = self._file.rows(
            "SELECT number, event, body, replays FROM events WHERE state = 'accepted'"
            " ORDER BY number LIMIT ?",
            (most,),
        )
        return [_outgoing(*row) for row in rows]

    def record(self, steps: Sequence[tuple[int, HandoverStep]]) -> None:
        """Take in what happened to events, by their numbers."""
        self._handovers.record(steps)

    def agree(self, stream: StreamIdentity) -> int | None:
        """Put back what a stream has lost; return how many, or None if it is another stream."""
        return self._handovers.agree(stream)

    def prune(self, now: float) -> int:
        """Remove some of what is older than is kept, unless it still waits; return how many."""
        with self._file.writing():
            last, at = self._aged(), self._file.fact("aged_at")
            # One pruning in several pieces goes as far as its first.
            if last is None or at is None or abs(now - float(at)) >= handover.MOST_PRUNED / 4:
                last = handover.pruned_until(last, now)
                self._file.set_fact("aged", str(last))
                self._file.set_fact("aged_at", str(now))
            gone = self._file.execute(
                "DELETE FROM events WHERE number IN (SELECT number FROM events"
                " WHERE state <> 'accepted' AND kept_from < ? LIMIT ?)",
                (last - self._retention, MOST_PRUNED),
            ).rowcount
            gone += self._file.execute(
                "DELETE FROM known WHERE (source, identity) IN"
                " (SELECT source, identity FROM known WHERE since < ? LIMIT ?)",
                (last - handover.KNOWN_DAYS * DAY, MOST_PRUNED),
            ).rowcount
        return int(gone)

    def figures(self) -> StoreFigures:
        """Return the figures of the moment."""
        # By the indexes of what is rare, however much is kept.
        (row,) = self._file.rows(
            "SELECT (SELECT count(*) FROM events WHERE state = 'accepted'),"
            " (SELECT count(*) FROM events WHERE state = 'dead'),"
            " (SELECT kept_from FROM events WHERE state = 'accepted' ORDER BY number LIMIT 1)"
        )
        return StoreFigures(*row)

    # --- what people do

    def newest(
        self, most: int, state: HandoverState | None = None, source: str = ""
    ) -> list[KeptEvent]:
        """Return events without their bodies, the newest first."""
        wanted = {"state": state, "source": source}
        where = " AND ".join(f"{name} = :{name}" for name, value in wanted.items() if value)
        rows = self._file.rows(
            f"SELECT event, x'', {handovers.COLUMNS} FROM events {where and 'WHERE ' + where}"  # noqa: S608 - our own words
            " ORDER BY number DESC LIMIT :most",
            {**wanted, "most": most},
        )
        return [_kept(row) for row in rows]

    def load(self, event_uuid: UUID) -> KeptEvent | None:
        """Return an event with its body, or None."""
        rows = self._file.rows(
            f"SELECT event, body, {handovers.COLUMNS} FROM events WHERE event_uuid = ?",  # noqa: S608
            (str(event_uuid),),
        )
        return _kept(rows[0]) if rows else None

    def replay(self, event_uuids: Sequence[UUID]) -> int:
        """Have events handed over again; return how many that changes."""
        with self._file.writing():
            return sum(
                self._handovers.advance("event_uuid = ?", str(n), Replayed()) for n in event_uuids
            )

    # --- rows

    def _aged(self) -> float | None:
        aged = self._file.fact("aged")
        return None if aged is None else float(aged)


def _outgoing(number: int, event: str, body: bytes, replays: int) -> OutgoingEvent:
    found = WebhookEvent.model_validate_json(event)
    name = message_id(str(found.event_uuid), replays)
    return OutgoingEvent(number, subject(found), name, message(found, body), cause=span_of(found))


def _kept(row: tuple[Any, ...]) -> KeptEvent:
    event, body, *became = row
    return KeptEvent(WebhookEvent.model_validate_json(event), handovers.read(became), body)
