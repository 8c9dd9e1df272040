"""`rave vm snapshot delete`."""

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
def delete(app: App, name: str, snapshot: str) -> None:
    """Delete a snapshot of a machine; the machine and its other snapshots stay.

    \b
    Example: rave vm snapshot delete demo before-upgrade
    """
    from rave_cli.machines import snapshots, store

    snapshots.delete(store.load(name), snapshot)
    document = {"name": name, "snapshot": snapshot, "deleted": True}
    app.show.result(document, f"snapshot {snapshot} of {name} deleted")
