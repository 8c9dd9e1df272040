"""`rave pool token`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "create": Lazy("rave_cli.commands.pool.token.create:create", "Make a token."),
        "list": Lazy("rave_cli.commands.pool.token.list:list_", "The tokens that there are."),
        "revoke": Lazy("rave_cli.commands.pool.token.revoke:revoke", "Revoke a token."),
    },
)
def token() -> None:
    """Tokens with which others may ask the pool, each with a role and an end."""
