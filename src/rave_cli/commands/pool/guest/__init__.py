"""`rave pool guest`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "add": Lazy("rave_cli.commands.pool.guest.add:add", "Let a machine ask the pool."),
        "list": Lazy("rave_cli.commands.pool.guest.list:list_", "The machines that may."),
        "remove": Lazy("rave_cli.commands.pool.guest.remove:remove", "Let one ask no more."),
    },
)
def guest() -> None:
    """Machines whose programs may ask the pool for sandboxes, each within its own bounds."""
