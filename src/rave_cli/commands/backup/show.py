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
    """Show what is known of the backup BACKUP.

    \b
    Example: rave backup show dev-20261126T060000Z-1f3a
    """
    from rave_cli.flows import vault
    from rave_cli.views.backup import backup_lines

    found = vault.find(vault.listed(app.settings), None, backup)
    app.show.result(found.document() | {"window": found.window}, *backup_lines(found))
