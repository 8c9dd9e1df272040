"""`rave oauth`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "clients": Lazy("rave_cli.commands.oauth.clients:clients", "Those of a machine."),
        "show": Lazy("rave_cli.commands.oauth.show:show", "One of them."),
        "rotate": Lazy("rave_cli.commands.oauth.rotate:rotate", "Give one a new secret."),
    },
)
def oauth() -> None:
    """The services of a machine to which people sign in, as clients of its single sign-on."""
