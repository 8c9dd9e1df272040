"""The only code that prints. Results go to stdout, everything else to stderr.

Whatever is shown to people passes `_safe`: text of a guest, a file or another program never acts on
the terminal, nor passes for a line of ours. A stderr that cannot be written stops nothing; a
result that cannot be written is a fault, unless its reader has left.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli import streams, text
from rave_cli.errors import RaveError
from rave_cli.tables import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from rich.console import Console

    from rave_cli.flows.events import Event, OnEvent

# Progress is for people who wait: nothing is drawn before this many seconds.
PATIENCE = 0.4

# Columns of a terminal below which a bar would leave no room for words.
WIDE = 72

COLOURS = {"ok": "32", "pass": "32", "warn": "33", "skip": "36", "fail": "31", "error": "31"}


class Painted(str):
    """Text that `show` has made itself, colours included; all other text is cleaned."""

    __slots__ = ()


# A line to show: its parts are cleaned one by one, unless painted.
Line = str | tuple[str, ...]


@dataclass(frozen=True)
class Show:
    """How this invocation talks. With `as_json`, stdout carries exactly one JSON document."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def result(self, document: Any, *lines: Line) -> None:  # noqa: ANN401 - anything JSON can carry
        """Print the command's result: the document with `--json`, else the lines.

        Raises:
            RaveError: HOST if it cannot be written.
        """
        shown = _json(document) if self.as_json else "\n".join(map(_safe, lines))
        # That nobody reads on changes nothing about what was done.
        with suppress(streams.ReaderLeftError):
            if shown:
                streams.put(shown + "\n")

    def line(self, line: Line) -> None:
        """Print one line of a result that goes on.

        Raises:
            streams.ReaderLeftError: nobody reads it.
            RaveError: HOST if it cannot be written.
        """
        streams.put(_safe(line) + "\n")

    def record(self, document: Any, line: Line) -> None:  # noqa: ANN401 - anything JSON can carry
        """Print one part of a result that goes on: a line, with `--json` one of a document.

        Raises:
            streams.ReaderLeftError: nobody reads it.
            RaveError: HOST if it cannot be written.
        """
        streams.put((_json(document, indent=None) if self.as_json else _safe(line)) + "\n")

    def raw(self, data: bytes, *, error: bool = False) -> None:
        """Pass on what a command in a guest printed, byte for byte, as `ssh` does.

        Raises:
            streams.ReaderLeftError: nobody reads it.
            RaveError: HOST if standard output cannot be written.
        """
        if error:
            with suppress(OSError):
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()
            return
        with streams.printing():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Line]:
        """Return a table as lines: aligned and coloured on a terminal, tab-separated in a pipe, and
        a line per cell where the terminal is too narrow for columns.
        """
        cells = [
            [cell if isinstance(cell, Painted) else text.cell(cell) for cell in row] for row in rows
        ]
        if not sys.stdout.isatty():
            return [Painted("\t".join(row)) for row in cells]
        head, lines = layout(columns, cells, shutil.get_terminal_size().columns)
        shown = [*([_paint(head, "1", sys.stdout)] if head else []), *lines]
        return [Painted(line) for line in shown]

    def note(self, line: Line) -> None:
        """Say something on stderr, unless quiet."""
        if not self.quiet:
            streams.say(_safe(line))

    def warning(self, line: Line) -> None:
        """Say something on stderr that matters even when quiet."""
        streams.say(f"{_paint('warning:', '33', sys.stderr)} {_safe(line)}")

    def confirm(self, question: str, *, default: bool) -> bool:
        """Ask a person.

        Raises:
            click.Abort: nobody answers.
        """
        import click

        return click.confirm(_safe(question), default=default, err=True)

    def error(self, error: RaveError) -> None:
        """Say what ends the command: what happened, what it was like before, and what helps."""
        self.fault(error)
        self.failure(fault_document(error))

    def fault(self, error: RaveError) -> None:
        """Say what happened, what it was like just before, and what helps; the command goes on."""
        lines = [f"{_paint('error:', '31', sys.stderr)} {_safe(error.message)}"]
        lines += [f"  | {_safe(line)}" for line in error.detail]
        if error.hint:
            lines.append(f"{_paint('hint:', '36', sys.stderr)} {_safe(error.hint)}")
        streams.say("\n".join(lines))

    def failure(self, document: dict[str, Any]) -> None:
        """Print the document of a command that ends without its result, with `--json`."""
        if self.as_json:
            with suppress(streams.ReaderLeftError, RaveError):
                streams.put(_json(document) + "\n")

    def mark(self, status: str) -> str:
        """Return a status word, coloured on a terminal."""
        return _paint(_safe(status), COLOURS.get(status, "0"), sys.stdout)

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

    def log(self) -> None:
        """Show what modules log, from debug on for ours, from info on for others."""
        import logging

        class Lines(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                for line in self.format(record).splitlines():
                    streams.say(_safe(line))

        handler = Lines()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logging.basicConfig(handlers=[handler], level=logging.INFO)
        logging.getLogger("rave").setLevel(logging.DEBUG)


class Progress:
    """A running operation that shows nothing. `done` and `total` are in whatever unit it counts."""

    def __init__(self, title: str) -> None:
        self.title = _safe(title)
        self.began = time.monotonic()

    def update(self, line: Line, done: float | None = None, total: float | None = None) -> None:
        """Say how far it is."""

    def close(self, *, done: bool) -> None:
        """Say that it is over, and whether it was done."""


class _Lines(Progress):
    """Progress in a log: one line for each new step, with the seconds since the start."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self.last = ""
        streams.say(self.title)

    def update(self, line: Line, done: float | None = None, total: float | None = None) -> None:
        shown = _safe(line)
        if shown != self.last:
            self.last = shown
            streams.say(f"  {time.monotonic() - self.began:6.1f} s  {shown}")


class _Bar(Progress):
    """Progress on a terminal: a bar where there is room for one, else only what happens now."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        from rich import progress
        from rich.table import Column

        console = _console(sys.stderr)
        step = progress.TextColumn(
            "{task.fields[step]}",
            style="dim",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        )
        columns = (
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=24),
            progress.TimeElapsedColumn(),
            step,
        )
        wide = console.width >= WIDE
        self.bar = progress.Progress(
            *(columns if wide else (columns[0], step)), console=console, transient=True, expand=True
        )
        self.task = self.bar.add_task(self.title, total=None, step="" if wide else self.title)
        with suppress(OSError):
            self.bar.start()

    def update(self, line: Line, done: float | None = None, total: float | None = None) -> None:
        with suppress(OSError):
            self.bar.update(self.task, step=_safe(line), completed=done, total=total)

    def close(self, *, done: bool) -> None:
        # The terminal may be gone; what is cleaned up after us must not suffer from it.
        with suppress(OSError):
            self.bar.stop()
        took = time.monotonic() - self.began
        if done and took > PATIENCE:
            streams.say(f"{_paint('✓', '32', sys.stderr)} {self.title}  {took:.1f} s")


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
            line = (f"{event.status} ", event.text) if event.status else event.text
            self._shown.update(line, event.done, event.total)

    def close(self, *, done: bool) -> None:
        """End the step that is shown."""
        if self._shown is not None:
            self._shown.close(done=done)
            self._shown = None


def fault_document(error: RaveError) -> dict[str, Any]:
    """Return what `--json` shows of an error."""
    return {
        "error": error.message,
        "reason": error.reason,
        "hint": error.hint,
        "detail": list(error.detail),
        "exitCode": int(error.exit_code),
        **error.data,
    }


def _safe(line: Line) -> str:
    """Return a line as it may be shown."""
    parts = (line,) if isinstance(line, str) else line
    return Painted(
        "".join(part if isinstance(part, Painted) else text.line(part) for part in parts)
    )


def _json(document: Any, *, indent: int | None = 2) -> str:  # noqa: ANN401 - anything JSON can carry
    """Return a document as JSON that standard output can encode."""
    encoding = sys.stdout.encoding or "utf-8"
    ascii_only = not encoding.lower().startswith("utf")
    return text.dump(document, ascii_only=ascii_only, indent=indent)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False)


def _paint(word: str, code: str, stream: TextIO) -> Painted:
    """Colour a word where colour is welcome (https://no-color.org)."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return Painted(word)
    return Painted(f"\x1b[{code}m{word}\x1b[0m")
