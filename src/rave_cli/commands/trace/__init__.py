"""`rave trace`: what became of a command or a webhook in a machine, a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "list": Lazy("rave_cli.commands.trace.list:list_", "The newest of a machine."),
        "show": Lazy("rave_cli.commands.trace.show:show", "One, as a tree with times."),
    },
)
def trace() -> None:
    """What became of what was commanded in a chat, or told by a forge, in a running machine.

    A trace goes from the message over the task of an agent and each of its steps to the merge. It
    is kept for as long as the mode keeps events: 7 days (safe) or 30 (full).
    """
