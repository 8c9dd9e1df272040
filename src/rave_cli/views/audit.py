"""What the audit log tells, for people and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_cli import shapes
from rave_cli.text import cell

if TYPE_CHECKING:
    from rave_cli.audit import Performed

COLUMNS = ("time", "who", "command", "end")


def done_row(done: Performed) -> tuple[str, ...]:
    """Return the cells of a command."""
    begun = done.begin
    people = [begun.who.user] if begun.who.login in (None, begun.who.user) else []
    people = people or [f"{begun.who.login} as {begun.who.user}"]
    words = (begun.told.verb, *begun.told.subjects, *begun.told.options)
    return (begun.time, cell(people[0]), cell(" ".join(words)), _end(done))


def _end(done: Performed) -> str:
    """Return how it ended. One that was killed, or that another program replaced, has no end."""
    if done.end is None:
        return "no end seen"
    how = f"exit {done.end.exit_code}" if done.end.exit_code else "well"
    return f"{how} after {done.end.seconds:g} s"


def done_document(done: Performed) -> dict[str, Any]:
    """Return a command as JSON has it."""
    begun, end = done.begin, done.end
    return {
        "id": begun.id,
        "time": begun.time,
        "who": shapes.plain(begun.who),
        **shapes.plain(begun.told),
        "exitCode": end.exit_code if end else None,
        "seconds": end.seconds if end else None,
    }
