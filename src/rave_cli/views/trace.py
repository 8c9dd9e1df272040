"""How the trace of a job reads, for people and as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rave_cli import shapes

if TYPE_CHECKING:
    from rave_cli.pool.jobs.spans import JobTrace, Span
    from rave_cli.show import Line


def trace_document(found: JobTrace) -> dict[str, Any]:
    """Return what `--json` shows of a trace."""
    return {
        "job": found.job.name,
        "state": found.job.state,
        "trace": found.trace,
        "spans": [shapes.plain(span) for span in found.spans],
    }


def trace_lines(found: JobTrace) -> list[Line]:
    """Return a trace as a tree: after how many seconds each part began, and how many it took."""
    first, now = found.spans[0], time.time()
    depths = {first.parent: -1}
    lines: list[Line] = [
        f"job {found.job.name} {found.job.state}, trace {found.trace}",
        f"{'began':>9}  {'took':>9}",
    ]
    for span in found.spans:
        depths[span.id] = depths[span.parent] + 1
        took = (now if span.ended is None else span.ended) - span.began
        more = "" if span.ended is not None else " …"
        lines.append(
            f"{span.began - first.began:>+8.3f}s  {took:>8.3f}s  {'  ' * depths[span.id]}"
            f"{_named(span)}{more}"
        )
    return lines


def _named(span: Span) -> str:
    said = span.attributes
    number, agent = said.get("cicd.pipeline.task.run.id"), said.get("cicd.worker.id")
    name = f"{span.name} {number} ({agent})" if number else span.name
    name = "job" if name == "RUN" else name
    return f"{name}: {span.error}" if span.error else name
