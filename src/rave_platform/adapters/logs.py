"""Logs as JSON lines: what happened, with ids; never a body, a header or a secret."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

# What a record may carry besides its message; nothing else is written.
FIELDS = (
    "command", "account", "event_id",
    "source", "reason", "status", "event_uuid", "trace_id", "why", "count", "host", "port", "path",
    "seconds",
)  # fmt: skip


class JsonLines(logging.Formatter):
    """One record, one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; of an exception its type and place, not its words."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
            line["at"] = _place(record.exc_info[2])
        return json.dumps(line, default=str)


def _place(traceback: object) -> str:
    """Return where an exception was raised."""
    place = ""
    while traceback is not None:
        frame = getattr(traceback, "tb_frame", None)
        place = f"{frame.f_code.co_filename}:{getattr(traceback, 'tb_lineno', 0)}" if frame else ""
        traceback = getattr(traceback, "tb_next", None)
    return place


def begin(level: int = logging.INFO) -> None:
    """Send everything that is logged to stderr, as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
