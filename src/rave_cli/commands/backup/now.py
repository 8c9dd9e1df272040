"""`rave backup now`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@json_option
@pass_app
@audited
def now(app: App, name: str) -> None:
    """Back the running machine NAME up: what its services keep, each consistent.

    It goes into a folder of this host, encrypted: RAVE_BACKUP_FOLDER, else one beside the machines.
    The first time that folder is made, and it is said what you have to keep elsewhere.

    \b
    Example: rave backup now dev
    """
    from rave_cli.flows import backup_now
    from rave_cli.views.backup import size_of

    with app.show.events() as on_event:
        done = backup_now.now(name, app.settings, on_event=on_event)
    text = f"{done.backup.name}: {size_of(done.backup.size)} in {done.seconds:.1f} s"
    app.show.result(done.document(), text)
