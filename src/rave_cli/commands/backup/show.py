"""`rave backup show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import backup_argument, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@backup_argument
@json_option
@pass_app
def show(app: App, backup: str) -> None:
    """Show what is known of the backup BACKUP, and to which moments PostgreSQL gets from it.

    \b
    Example: rave backup show dev-20261126T060000Z-1f3a
    """
    from rave_cli.backups import log
    from rave_cli.flows import vault
    from rave_cli.views.backup import backup_lines

    listing = vault.listed(app.settings)
    found = vault.find(listing, None, backup)
    span = log.reach(found, log.chains(listing.logs))
    more = {"window": found.window, "moments": span.document() if span else None}
    app.show.result(found.document() | more, *backup_lines(found, span))
