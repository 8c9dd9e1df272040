"""Tables as lines of text for a terminal of a given width; nothing is ever cut off."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import TYPE_CHECKING

from rave_cli import text

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2
# Columns of a terminal below which the columns of a table that does not fit are no help.
WIDE = 72
# Columns that are enough to wrap sentences in.
SENTENCE = 24


def layout(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> tuple[str | None, list[str]]:
    """Return a table's head, if it has one, and its lines.

    The last column is wrapped between words where that makes the table fit. Else its lines are as
    long as they are, for the terminal to wrap; on a narrow one each cell gets a line instead.

    Args:
        columns: the heads of the columns.
        rows: the cells, each of one clean line; colours are allowed.
        width: columns of the terminal.
    """
    every = [columns, *rows]
    widths = [max(map(cell_width, column)) for column in zip(*every, strict=True)]
    indent = sum(widths[:-1]) + GAP * (len(widths) - 1)
    room = width - indent
    if widths[-1] > room and room < SENTENCE:
        if width < WIDE:
            return None, _stacked(columns, rows)
        room = widths[-1]
    lines = [line for row in every for line in _row(row, widths, room)]
    head = lines.pop(0)
    return (head if head.strip() else None), lines


def cell_width(cell: str) -> int:
    """Return how many columns of a terminal a cell takes (Unicode UAX #11)."""
    return sum(map(_width, text.clean(cell)))


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _row(row: Sequence[str], widths: Sequence[int], room: int) -> list[str]:
    """Return the lines of one row; a last cell that is too long goes on below itself."""
    *front, last = row
    padded = (
        cell + " " * (wide - cell_width(cell) + GAP)
        for cell, wide in zip(front, widths, strict=False)
    )
    start = "".join(padded)
    pieces = (
        [last]
        if cell_width(last) <= room
        else textwrap.wrap(last, room, break_long_words=False, break_on_hyphens=False)
    )
    indent = " " * cell_width(start)
    return [
        f"{start if not number else indent}{piece}".rstrip()
        for number, piece in enumerate(pieces or [""])
    ]


def _stacked(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line per cell that says something, with an empty line between rows."""
    if not any(columns):
        return [": ".join(row) for row in rows]
    lines: list[str] = []
    for row in rows:
        named = zip(columns, row, strict=True)
        lines += [f"{name}: {cell}" if name else cell for name, cell in named if cell]
        lines.append("")
    return lines[:-1]
