"""What the dashboard lays over its tabs: a question, a text, the output of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult  # noqa: TC002 - Textual reads annotations
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import RichLog, Static

from rave_cli.dashboard.logtail import MOST_LINES
from rave_cli.text import line

if TYPE_CHECKING:
    from textual.binding import BindingType


class ConfirmScreen(ModalScreen[bool]):
    """Asks a question; only `y` is a yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "dismiss(True)", "Yes"),
        ("n,escape,q", "dismiss(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """As Textual."""
        with Vertical(classes="over"):
            yield Static(line(self._question), markup=False)
            yield Static("y: yes   n: no", markup=False, classes="keys")


class TextScreen(ModalScreen[None]):
    """Shows lines until they are put away."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q,enter", "dismiss", "Close")]

    def __init__(self, title: str, lines: list[str]) -> None:
        super().__init__()
        self._title, self._lines = title, lines

    def compose(self) -> ComposeResult:
        """As Textual."""
        with VerticalScroll(classes="over"):
            yield Static(line(self._title), markup=False, classes="title")
            yield Static("\n".join(map(line, self._lines)), markup=False)
            yield Static("Esc: close", markup=False, classes="keys")


class LogScreen(ModalScreen[None]):
    """Shows the end of what a job prints; whoever opened it hands on what comes."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q", "dismiss", "Close")]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """As Textual."""
        yield Static(line(self._title), markup=False, classes="title", id="log-title")
        yield RichLog(max_lines=MOST_LINES, markup=False, highlight=False, wrap=True)
        yield Static("Esc: close", markup=False, classes="keys")

    def add(self, lines: list[str]) -> None:
        """Show more lines; they are clean."""
        log = self.query_one(RichLog)
        for one in lines:
            log.write(Text(one))

    def say(self, title: str) -> None:
        """Say something else above them."""
        self.query_one("#log-title", Static).update(Text(line(title)))
