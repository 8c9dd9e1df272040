"""`rave pool cache`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "list": Lazy("rave_cli.commands.pool.cache.list:list_", "The caches that there are."),
        "remove": Lazy("rave_cli.commands.pool.cache.remove:remove", "Remove a cache."),
        "prune": Lazy("rave_cli.commands.pool.cache.prune:prune", "Remove what nobody uses."),
    },
)
def cache() -> None:
    """What jobs leave for the next of the same owner and key, on disks of their machines."""
