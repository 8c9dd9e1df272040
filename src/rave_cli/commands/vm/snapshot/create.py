"""`rave vm snapshot create`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.argument("snapshot")
@json_option
@pass_app
@audited
def create(app: App, name: str, snapshot: str) -> None:
    """Keep a machine as it is now: its disk and, if it runs or is suspended, its memory.

    A running machine stands still meanwhile, for seconds.

    \b
    Example: rave vm snapshot create demo before-upgrade
    """
    from rave_cli.machines import snapshots, store
    from rave_cli.views.machine import snapshot_line

    document = snapshots.create(store.load(name), snapshot).document
    app.show.result(document, snapshot_line(document))
