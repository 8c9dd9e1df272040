"""The only code that prints. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from rave_cli.errors import RaveError
    from rave_cli.flows.events import Event, OnEvent

# Progress is for people who wait: nothing is drawn before this many seconds.
PATIENCE = 0.4


@dataclass(frozen=True)
class Show:
    """How this invocation talks. With `as_json`, stdout carries exactly one JSON document."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def result(self, document: Any, text: str) -> None:  # noqa: ANN401 - anything JSON can carry
        """Print the command's result: the document with `--json`, else the text."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        elif text:
            sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        """Return a table as text: aligned and coloured on a terminal, tab-separated in a pipe."""
        if not sys.stdout.isatty():
            return "\n".join("\t".join(row) for row in rows)
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*map(Text.from_ansi, row))
        console = _console(sys.stdout)
        with console.capture() as captured:
            console.print(table)
        return captured.get().rstrip("\n")

    def note(self, text: str) -> None:
        """Say something on stderr, unless quiet."""
        if not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def warning(self, text: str) -> None:
        """Say something on stderr that matters even when quiet."""
        sys.stderr.write(f"{_paint('warning:', '33', sys.stderr)} {text}\n")
        sys.stderr.flush()

    def error(self, error: RaveError) -> None:
        """Say what happened, what it was like just before, and what helps."""
        lines = [f"{_paint('error:', '31', sys.stderr)} {error.message}"]
        lines += [f"  | {line}" for line in error.detail]
        if error.hint:
            lines.append(f"{_paint('hint:', '36', sys.stderr)} {error.hint}")
        sys.stderr.write("\n".join(lines) + "\n")
        if self.as_json:
            document = {
                "error": error.message,
                "reason": error.reason,
                "hint": error.hint,
                "detail": list(error.detail),
                "exitCode": int(error.exit_code),
            }
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    def mark(self, status: str) -> str:
        """Return a status word, coloured on a terminal."""
        colours = {
            "ok": "32",
            "pass": "32",
            "warn": "33",
            "skip": "36",
            "fail": "31",
            "error": "31",
        }
        return _paint(status, colours.get(status, "0"), sys.stdout)

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Show that something goes on: a bar on a terminal, a line per step elsewhere."""
        shown = self.begin(title)
        done = False
        try:
            yield shown
            done = True
        finally:
            shown.close(done=done)

    @contextmanager
    def events(self) -> Iterator[OnEvent]:
        """Show what a flow tells, until it is over."""
        follower = _Follower(self)
        try:
            yield follower.hear
        finally:
            follower.close(done=False)

    def begin(self, title: str) -> Progress:
        """Start showing that something goes on; the caller closes what is returned."""
        if self.quiet:
            return Progress(title)
        return _Bar(title) if sys.stderr.isatty() else _Lines(title)


class Progress:
    """A running operation that shows nothing. `done` and `total` are in whatever unit it counts."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = time.monotonic()

    def update(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Say how far it is."""

    def close(self, *, done: bool) -> None:
        """Say that it is over, and whether it was done."""


class _Lines(Progress):
    """Progress in a log: one line for each new step, with the seconds since the start."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self.last = ""
        sys.stderr.write(f"{title}\n")
        sys.stderr.flush()

    def update(self, text: str, done: float | None = None, total: float | None = None) -> None:
        if text == self.last:
            return
        self.last = text
        sys.stderr.write(f"  {time.monotonic() - self.began:6.1f} s  {text}\n")
        sys.stderr.flush()


class _Bar(Progress):
    """Progress on a terminal."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        from rich import progress

        self.bar = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[step]}", style="dim"),
            console=_console(sys.stderr),
            transient=True,
        )
        self.task = self.bar.add_task(title, total=None, step="")
        self.bar.start()

    def update(self, text: str, done: float | None = None, total: float | None = None) -> None:
        self.bar.update(self.task, step=text, completed=done, total=total)

    def close(self, *, done: bool) -> None:
        self.bar.stop()
        took = time.monotonic() - self.began
        if done and took > PATIENCE:
            sys.stderr.write(f"{_paint('✓', '32', sys.stderr)} {self.title}  {took:.1f} s\n")


class _Follower:
    """Draws the events of a flow: each step as a progress, notes and warnings as lines."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._shown: Progress | None = None

    def hear(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "begin":
            self.close(done=False)
            self._shown = self._show.begin(event.text)
        elif event.kind in ("end", "failed"):
            self.close(done=event.kind == "end")
        elif event.kind == "note":
            self._show.note(event.text)
        elif event.kind == "warning":
            self._show.warning(event.text)
        elif self._shown is not None:
            mark = f"{self._show.mark(event.status)} " if event.status else ""
            self._shown.update(f"{mark}{event.text}", event.done, event.total)

    def close(self, *, done: bool) -> None:
        """End the step that is shown."""
        if self._shown is not None:
            self._shown.close(done=done)
            self._shown = None


def _console(stream: Any) -> Console:  # noqa: ANN401 - a text stream
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=True)


def _paint(text: str, code: str, stream: Any) -> str:  # noqa: ANN401 - a text stream
    """Colour a word where colour is welcome (https://no-color.org)."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{code}m{text}\x1b[0m"
