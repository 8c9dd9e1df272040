"""Accepted events in SQLite: durable when a transaction has ended, whatever is killed or cut off.

WAL with synchronous=FULL: with NORMAL a power cut takes back what was acknowledged
(https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from rave_platform.adapters import files
from rave_platform.adapters.files import UntrustedFileError
from rave_platform.application.ports import (
    KeptEvent,
    OutgoingEvent,
    StoredEvent,
    StoreFigures,
    StoreUnavailableError,
)
from rave_platform.domain import handover
from rave_platform.domain.events import WebhookEvent, message, subject
from rave_platform.domain.handover import (
    Handover,
    HandoverState,
    LostByStream,
    Replayed,
    advance,
    message_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
# Seconds to wait for another process that writes (a replay).
BUSY = 5.0
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
CREATE INDEX known_aging ON known (since);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID
"""

HANDOVER = "state, refusals, replays, sequence, why"


class SqliteEvents:
    """The open store: an EventStore and an EventArchive. For one thread at a time."""

    def __init__(
        self, place: Path, retention_days: int, most_waiting: int = MOST_WAITING,
        *, create: bool = True,
    ) -> None:  # fmt: skip
        self.place = place
        self._retention = retention_days * DAY
        self._most_waiting = most_waiting
        with _refusing():
            # Bodies are nobody else's business.
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(place, flags | (os.O_CREAT if create else 0), 0o600)
            try:
                files.require_ours(descriptor, place, secret=True)
            finally:
                os.close(descriptor)
            self._db = sqlite3.connect(
                place, timeout=BUSY, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        # Memory is scarcer than reads: 1 MiB.
        self._db.execute("PRAGMA cache_size = -1024")
        if self._version() == 0:
            with self._writing():
                # Another process may have made it meanwhile.
                if self._version() == 0:
                    for statement in SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
        if self._version() > VERSION:
            raise StoreUnavailableError(f"{self.place} was written by a newer version")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    # --- what the dispatcher does

    def add(self, deliveries: Sequence[WebhookDelivery], now: float) -> list[StoredEvent]:
        """Take in deliveries, all or none.

        Raises:
            StoreUnavailableError: if they are not on the disk, or too many wait.
        """
        with self._writing():
            if self._waiting() + len(deliveries) > self._most_waiting:
                raise StoreUnavailableError("too many events wait for the stream")
            kept_from = max(now, self._aged() or now)
            return [self._add(delivery, kept_from) for delivery in deliveries]

    def _add(self, delivery: WebhookDelivery, kept_from: float) -> StoredEvent:
        event = delivery.event
        name = str(event.event_uuid)
        new = self._db.execute(
            "INSERT INTO known VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (event.source, delivery.identity, name, kept_from),
        ).rowcount
        if not new:
            return StoredEvent(event.event_uuid, new=False)
        self._db.execute(
            "INSERT INTO events (event_uuid, source, kept_from, event, body, state, refusals,"
            " replays, why) VALUES (?, ?, ?, ?, ?, 'accepted', 0, 0, '') ON CONFLICT DO NOTHING",
            (name, event.source, kept_from, event.model_dump_json(), delivery.body),
        )
        return StoredEvent(event.event_uuid, new=True)

    def due(self, most: int) -> list[OutgoingEvent]:
        """Return events that the stream does not have, the oldest first."""
        rows = self._rows(
            "SELECT number, event, body, replays FROM events WHERE state = 'accepted'"
            " ORDER BY number LIMIT ?",
            (most,),
        )
        return [_outgoing(*row) for row in rows]

    def record(self, steps: Sequence[tuple[int, HandoverStep]]) -> None:
        """Take in what happened to events, by their numbers."""
        # What a power cut takes back of this is published again, under the same name: no sync, for
        # which whoever is waiting for an answer would have to wait.
        with self._unsynced(), self._writing():
            for number, step in steps:
                self._advance("number = ?", number, step)

    def agree(self, stream: StreamIdentity) -> int | None:
        """Put back what a stream has lost; return how many, or None if it is another stream."""
        with self._writing():
            before = self._fact("stream")
            self._set_fact("stream", stream.created)
            if before is not None and before != stream.created:
                return None
            lost = self._db.execute(
                "SELECT number FROM events WHERE state = 'published' AND sequence > ?",
                (stream.last_sequence,),
            ).fetchall()
            for (number,) in lost:
                self._advance("number = ?", number, LostByStream())
        return len(lost)

    def prune(self, now: float) -> int:
        """Remove some of what is older than is kept, unless it still waits; return how many."""
        with self._writing():
            last, at = self._aged(), self._fact("aged_at")
            # One pruning in several pieces goes as far as its first.
            if last is None or at is None or abs(now - float(at)) >= handover.MOST_PRUNED / 4:
                last = handover.pruned_until(last, now)
                self._set_fact("aged", str(last))
                self._set_fact("aged_at", str(now))
            gone = self._db.execute(
                "DELETE FROM events WHERE number IN (SELECT number FROM events"
                " WHERE state <> 'accepted' AND kept_from < ? LIMIT ?)",
                (last - self._retention, MOST_PRUNED),
            ).rowcount
            gone += self._db.execute(
                "DELETE FROM known WHERE (source, identity) IN"
                " (SELECT source, identity FROM known WHERE since < ? LIMIT ?)",
                (last - handover.KNOWN_DAYS * DAY, MOST_PRUNED),
            ).rowcount
        return int(gone)

    def figures(self) -> StoreFigures:
        """Return the figures of the moment."""
        # By the indexes of what is rare, however much is kept.
        (row,) = self._rows(
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
        rows = self._rows(
            f"SELECT event, x'', {HANDOVER} FROM events {where and 'WHERE ' + where}"  # noqa: S608 - our own words
            " ORDER BY number DESC LIMIT :most",
            {**wanted, "most": most},
        )
        return [_kept(row) for row in rows]

    def load(self, event_uuid: UUID) -> KeptEvent | None:
        """Return an event with its body, or None."""
        rows = self._rows(
            f"SELECT event, body, {HANDOVER} FROM events WHERE event_uuid = ?",  # noqa: S608
            (str(event_uuid),),
        )
        return _kept(rows[0]) if rows else None

    def replay(self, event_uuids: Sequence[UUID]) -> int:
        """Have events handed over again; return how many that changes."""
        with self._writing():
            return sum(self._advance("event_uuid = ?", str(n), Replayed()) for n in event_uuids)

    # --- rows

    def _advance(self, where: str, value: object, step: HandoverStep) -> bool:
        row = self._db.execute(
            f"SELECT {HANDOVER} FROM events WHERE {where}",  # noqa: S608 - our own words
            (value,),
        ).fetchone()
        if row is None:
            return False
        before = _handover(row)
        after = advance(before, step)
        if after == before:
            return False
        self._db.execute(
            "UPDATE events SET state = ?, refusals = ?, replays = ?, sequence = ?, why = ?"  # noqa: S608
            f" WHERE {where}",
            (after.state, after.refusals, after.replays, after.sequence, after.why, value),
        )
        return True

    def _waiting(self) -> int:
        (row,) = self._db.execute("SELECT count(*) FROM events WHERE state = 'accepted'")
        return int(row[0])

    def _aged(self) -> float | None:
        aged = self._fact("aged")
        return None if aged is None else float(aged)

    def _fact(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _set_fact(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @contextmanager
    def _unsynced(self) -> Iterator[None]:
        with _refusing():
            self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Enclose a transaction: all of it, or nothing."""
        with _refusing():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(
        self, words: str, values: Sequence[object] | dict[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        with _refusing():
            return self._db.execute(words, values).fetchall()


@contextmanager
def _refusing() -> Iterator[None]:
    """Raise what SQLite or the disk refuses as what the application knows."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError, UntrustedFileError) as fault:
        raise StoreUnavailableError(f"the store of events cannot be used: {fault}") from fault


def _outgoing(number: int, event: str, body: bytes, replays: int) -> OutgoingEvent:
    found = WebhookEvent.model_validate_json(event)
    name = message_id(str(found.event_uuid), replays)
    return OutgoingEvent(number, subject(found), name, message(found, body))


def _kept(row: tuple[Any, ...]) -> KeptEvent:
    event, body, *became = row
    return KeptEvent(WebhookEvent.model_validate_json(event), _handover(became), body)


def _handover(row: Sequence[Any]) -> Handover:
    """Return what the columns of HANDOVER say."""
    state, refusals, replays, sequence, why = row
    return Handover(HandoverState(state), refusals, replays, sequence, why)
