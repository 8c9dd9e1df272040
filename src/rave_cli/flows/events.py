"""What a flow tells while it runs: one type of event for everybody who shows or records it.

The packages below report in their own values (stages of a boot, results of checks); a flow says
what they mean for somebody who waits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["begin", "progress", "end", "failed", "note", "warning"]


@dataclass(frozen=True)
class Event:
    """One thing that happens in a flow.

    Attributes:
        kind: `begin` opens a step, `end` or `failed` closes it, `progress` comes between them; a
            `note` is worth a line of its own, a `warning` must not be overlooked.
        step: the step it belongs to, by name: image, start, stop, secrets, check.
        text: the title of a step, or what happens now.
        done: how many of `total` are done; None if nothing is counted.
        total: how many there are.
        status: the verdict of a check, where the event tells one.
    """

    kind: Kind
    step: str
    text: str
    done: int | None = None
    total: int | None = None
    status: str | None = None


OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Step:
    """A step that is under way; tells its events to `on_event`."""

    name: str
    on_event: OnEvent

    def progress(
        self,
        text: str,
        done: int | None = None,
        total: int | None = None,
        *,
        status: str | None = None,
    ) -> None:
        """Tell how far it is."""
        self.on_event(Event("progress", self.name, text, done, total, status))

    def note(self, text: str) -> None:
        """Tell something worth a line."""
        self.on_event(Event("note", self.name, text))

    def warning(self, text: str) -> None:
        """Tell something that must not be overlooked."""
        self.on_event(Event("warning", self.name, text))


@contextmanager
def step(on_event: OnEvent, name: str, title: str) -> Iterator[Step]:
    """Enclose a step: its beginning and its end are told, however it ends."""
    on_event(Event("begin", name, title))
    try:
        yield Step(name, on_event)
    except BaseException:
        on_event(Event("failed", name, title))
        raise
    on_event(Event("end", name, title))
