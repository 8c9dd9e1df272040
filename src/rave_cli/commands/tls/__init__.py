"""`rave tls`: the certificates of machines."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "status": Lazy(
            "rave_cli.commands.tls.status:status", "Who issued them, until when, and who trusts."
        ),
        "renew": Lazy("rave_cli.commands.tls.renew:renew", "Renew what rave issued."),
        "install": Lazy("rave_cli.commands.tls.install:install", "Show a certificate of your own."),
        "trust": Lazy("rave_cli.commands.tls.trust:trust", "Let this host trust rave's authority."),
    },
)
def tls() -> None:
    """The certificates of machines."""
