"""The spans of one service in SQLite: rave_guest/spans.py reads what is written here."""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rave_platform.adapters.sqlite import SqliteFile
from rave_platform.application.ports import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rave_platform.application.ports import SpanStore
    from rave_platform.domain.tracing import Span

LOG = logging.getLogger(__name__)

VERSION = 1
# Spans that are kept at most: some 40 MB, and more than a month of a busy team.
MOST = 100_000
# Rows that one pruning removes.
MOST_PRUNED = 500
DAY = 86400.0
SECOND = 1_000_000_000

# OpenTelemetry's, of a span that has not ended, or ended well; and of one that did not.
UNSET, ERROR = 0, 2
# Why a span did not succeed that nobody ended: its process is gone.
INTERRUPTED = "interrupted: the process ended meanwhile"

SCHEMA = """
CREATE TABLE spans (
  trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_span_id TEXT NOT NULL,
  service_name TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL,
  start_time_unix_nano INTEGER NOT NULL, end_time_unix_nano INTEGER,
  status_code INTEGER NOT NULL, status_message TEXT NOT NULL, attributes TEXT NOT NULL,
  PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;
CREATE INDEX spans_aging ON spans (start_time_unix_nano);
CREATE INDEX spans_open ON spans (start_time_unix_nano) WHERE end_time_unix_nano IS NULL
"""


class NoSpans:
    """Keeps none."""

    def keep(self, spans: Sequence[Span]) -> None:
        """Keep none of them."""

    def prune(self, now: float) -> int:
        """Remove none."""
        del now
        return 0


@contextmanager
def kept(place: Path, service: str, retention_days: int) -> Iterator[SpanStore]:
    """Open the store of a service's spans meanwhile; one that cannot be used stops no service."""
    try:
        store = SqliteSpans(place, service, retention_days)
    except StoreUnavailableError as fault:
        LOG.warning("no spans are kept", extra={"why": str(fault)})
        yield NoSpans()
        return
    with store:
        yield store


class SqliteSpans:
    """The open store: a SpanStore. For one thread at a time, and one process."""

    def __init__(
        self, place: Path, service: str, retention_days: int, most: int = MOST,
        now: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        self._service = service
        self._retention = retention_days * DAY
        self._most = most
        self._file = SqliteFile(place, SCHEMA, VERSION)
        with self._file.unsynced(), self._file.writing():
            self._file.execute(
                "UPDATE spans SET end_time_unix_nano = max(start_time_unix_nano, ?),"
                " status_code = ?, status_message = ? WHERE end_time_unix_nano IS NULL",
                (now(), ERROR, INTERRUPTED),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._file.close()

    def keep(self, spans: Sequence[Span]) -> None:
        """Keep what is known of spans; one that is done again goes on from its first beginning."""
        # A power cut may take the last of them: they are told, not promised.
        with self._file.unsynced(), self._file.writing():
            for span in spans:
                self._file.execute(
                    "INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (trace_id, span_id) DO UPDATE SET"
                    " parent_span_id = excluded.parent_span_id, name = excluded.name,"
                    " start_time_unix_nano ="
                    " min(start_time_unix_nano, excluded.start_time_unix_nano),"
                    " end_time_unix_nano = excluded.end_time_unix_nano,"
                    " status_code = excluded.status_code,"
                    " status_message = excluded.status_message,"
                    " attributes = excluded.attributes",
                    (
                        span.context.trace_id, span.context.span_id, span.parent_span_id,
                        self._service, span.name, span.kind, span.start_time_unix_nano,
                        span.end_time_unix_nano, ERROR if span.error else UNSET, span.error,
                        json.dumps(dict(span.attributes)),
                    ),
                )  # fmt: skip

    def prune(self, now: float) -> int:
        """Remove some of what is older than is kept, or more than may be; return how many."""
        with self._file.unsynced(), self._file.writing():
            ((count,),) = self._file.rows("SELECT count(*) FROM spans")
            until = int((now - self._retention) * SECOND)
            surplus = min(MOST_PRUNED, max(0, int(count) - self._most))
            return self._oldest(f"start_time_unix_nano < {until}", MOST_PRUNED) or self._oldest(
                "1", surplus
            )

    def _oldest(self, where: str, most: int) -> int:
        return self._file.execute(
            "DELETE FROM spans WHERE (trace_id, span_id) IN (SELECT trace_id, span_id FROM spans"  # noqa: S608 - our own words
            f" WHERE {where} ORDER BY start_time_unix_nano LIMIT {most})"
        ).rowcount
