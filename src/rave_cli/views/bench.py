"""How figures read for people: a table with a small plot, and where the time goes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rave_cli.bench.figures import bar, plot, summary

if TYPE_CHECKING:
    from rave_cli.bench import Figures
    from rave_cli.show import Line, Show

WIDTH = 30


def figure_lines(show: Show, found: Figures) -> list[Line]:
    """Return the table of a measure: percentiles in seconds, and the rounds as a plot."""
    rows = [(part, *_row(found.seconds(part))) for part in found.parts]
    return show.table(("seconds", "p50", "p95", "min", "max", "rounds"), rows)


def _row(seconds: list[float]) -> tuple[str, ...]:
    figures = summary(seconds)
    shown = (f"{figures[name]:.3f}" for name in ("p50", "p95", "min", "max"))
    return (*shown, plot(seconds, few=_few()))


def share_lines(show: Show, found: Figures) -> list[Line]:
    """Return where the time goes: a bar for each part of the total."""
    shares = found.document["shares"]
    medians = found.medians
    rows = [
        (part, f"{medians[part]:.3f}", f"{100 * share:.0f} %", bar(share, WIDTH, few=_few()))
        for part, share in shares.items()
        if share <= 1
    ]
    return show.table(("stage", "seconds", "share", ""), rows)


def _few() -> bool:
    """Whether the output has no letters but ASCII's."""
    return not (sys.stdout.encoding or "").lower().startswith("utf")
