"""What is filled again and again: texts, and tables whose cursor stays where somebody put it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual.widgets import DataTable, Static

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.pool.jobs.job import Job

# Of states; a word says what a colour does.
STYLES = {
    "running": "bold", "success": "green", "failure": "red", "error": "red", "timeout": "yellow",
    "cancelling": "yellow",
}  # fmt: skip


@dataclass(frozen=True)
class JobTableRow:
    """A row: what tells it from others, its clean cells, and the job that it is about, if any."""

    key: str
    cells: tuple[str, ...]
    job: Job | None


class SaidText(Static):
    """Text that is laid out anew only when it is another."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__("", id=id, markup=False)
        self._said = ""

    def say(self, said: str) -> None:
        """Show clean text."""
        if said != self._said:
            self._said = said
            self.update(Text(said))


class JobTable(DataTable[Text]):
    """Shows rows; `job` is the one under the cursor."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True)
        self._heads = columns
        self._filled: list[JobTableRow] = []

    def on_mount(self) -> None:
        """As Textual."""
        for head in self._heads:
            self.add_column(head, key=head)

    @property
    def job(self) -> Job | None:
        """The job that is selected; None if none is."""
        at = self.cursor_row
        return self._filled[at].job if 0 <= at < len(self._filled) else None

    def fill(self, rows: list[JobTableRow]) -> None:
        """Show these rows and no other; what is there already is not drawn anew."""
        if [row.key for row in rows] == [row.key for row in self._filled]:
            for number, (old, new) in enumerate(zip(self._filled, rows, strict=True)):
                self._change(number, old.cells, new.cells)
            self._filled = rows
            return
        at, selected = self.cursor_row, self._selected()
        self.clear()
        for row in rows:
            self.add_row(*map(_painted, row.cells), key=row.key)
        self._filled = rows
        keys = [row.key for row in rows]
        if rows:
            # Of the newest, the newest stays selected, unless somebody has gone further down.
            to = keys.index(selected) if at and selected in keys else min(at, len(rows) - 1)
            self.move_cursor(row=to, animate=False)

    def _selected(self) -> str:
        at = self.cursor_row
        return self._filled[at].key if 0 <= at < len(self._filled) else ""

    def _change(self, number: int, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        for column, (before, now) in enumerate(zip(old, new, strict=True)):
            if before != now:
                self.update_cell(
                    self._filled[number].key, self._heads[column], _painted(now), update_width=True
                )


def _painted(cell: str) -> Text:
    return Text(cell, style=STYLES.get(cell, ""), no_wrap=True, end="")
