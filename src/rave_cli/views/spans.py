"""How traces of a machine read, for people."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rave_cli.flows.traces import GuestSpan, GuestTrace, TraceSummary
    from rave_cli.show import Line, Show

COLUMNS = ("trace", "began", "took", "spans", "errors", "what", "services")
SECOND = 1e9
ERROR = 2


def trace_table(show: Show, found: Sequence[TraceSummary]) -> list[Line]:
    """Return traces as a table; nothing if there are none."""
    return show.table(COLUMNS, [_row(one) for one in found]) if found else []


def _row(found: TraceSummary) -> tuple[str, ...]:
    took = _took(found.start_time_unix_nano, None if found.going_on else found.end_time_unix_nano)
    return (
        found.trace_id, _moment(found.start_time_unix_nano), took.strip(), str(found.spans),
        str(found.errors), found.name, ", ".join(found.services),
    )  # fmt: skip


def span_lines(found: GuestTrace) -> list[Line]:
    """Return a trace as a tree: after how many seconds each part began, and how many it took."""
    first = min((span.start_time_unix_nano for span in found.spans), default=0)
    services = sorted({span.service_name for span in found.spans})
    count = f"{len(found.spans)} spans of {', '.join(services)}"
    lines: list[Line] = [
        f"trace {found.trace_id}, {_moment(first)}, {count}",
        f"{'began':>9}  {'took':>9}",
    ]
    whole = {span.span_id: span.service_name for span in found.spans}
    for span, guide in _tree(found.spans):
        began = (span.start_time_unix_nano - first) / SECOND
        took = _took(span.start_time_unix_nano, span.end_time_unix_nano)
        # Whose it is stands where that is another than the whole's.
        service = span.service_name if whole.get(span.parent_span_id) != span.service_name else ""
        lines.append(f"{began:>+8.3f}s  {took}  {guide}{_named(span, service)}")
    return lines


def _tree(spans: Sequence[GuestSpan]) -> Iterator[tuple[GuestSpan, str]]:
    """Yield each span with the lines that lead to it, whatever a guest says of their parents."""
    known = {span.span_id for span in spans}
    below: dict[str, list[GuestSpan]] = defaultdict(list)
    for span in spans:
        above = span.parent_span_id
        below[above if above in known and above != span.span_id else ""].append(span)
    left = {id(span): span for span in spans}
    # One that leads back to itself hangs below none: it is told at the end.
    while left:
        start = [span for span in below[""] if id(span) in left] or [next(iter(left.values()))]
        waiting = [(span, "", "") for span in reversed(start)]
        while waiting:
            span, lead, branch = waiting.pop()
            if left.pop(id(span), None) is None:
                continue
            yield span, lead + branch
            inner = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
            parts = [one for one in below[span.span_id] if id(one) in left]
            marks = ["├─ "] * (len(parts) - 1) + ["└─ "]
            waiting += reversed(
                [(one, inner, mark) for one, mark in zip(parts, marks, strict=False)]
            )


def _named(span: GuestSpan, service: str) -> str:
    said = span.attributes
    more = [str(said[name]) for name in ("url.path", "rave.status", "rave.result") if name in said]
    status = span.status
    if status.code == ERROR:
        more.append(f"FAILED: {status.message}" if status.message else "FAILED")
    name = f"{span.name} ({service})" if service else span.name
    return f"{name}: {', '.join(more)}" if more else name


def _took(began: int, ended: int | None) -> str:
    # What goes on has taken the time until now, by this host's clock.
    seconds = ((time.time_ns() if ended is None else ended) - began) / SECOND
    return f"{max(0.0, seconds):>8.3f}s" + (" …" if ended is None else "")


def _moment(at: int) -> str:
    return f"{datetime.fromtimestamp(at // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%S}Z"
