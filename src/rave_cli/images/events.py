"""What a long operation of this package tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BuildEvent:
    """One thing to tell.

    Attributes:
        text: what happens now, or what the user must know.
        done: how many steps of `total` are done.
        total: how many steps there are.
        notice: True for what deserves a line of its own and must not scroll away.
    """

    text: str
    done: int | None = None
    total: int | None = None
    notice: bool = False

    def __str__(self) -> str:
        """Return the text."""
        return self.text


OnEvent = Callable[[BuildEvent], None]


def ignore(_event: BuildEvent) -> None:
    """Tell nobody."""
