"""`rave audit`: who did what through rave on this host, a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "show": Lazy("rave_cli.commands.audit.show:show", "The latest commands."),
        "verify": Lazy("rave_cli.commands.audit.verify:verify", "Whether anything was changed."),
    },
)
def audit() -> None:
    """What was done to machines, secrets and accounts through rave on this host, and by whom.

    Each line of the log carries the sha256 of the one before.
    """
