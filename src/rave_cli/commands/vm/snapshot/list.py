"""`rave vm snapshot list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@machine_argument
@json_option
@pass_app
def list_(app: App, name: str) -> None:
    """List the snapshots of a machine.

    \b
    Example: rave vm snapshot list demo
    """
    from rave_cli.machines import snapshots, store
    from rave_cli.views.machine import snapshot_line

    machine = store.load(name)
    documents = [snapshots.load(machine, entry).document for entry in snapshots.names(machine)]
    if not documents:
        app.show.note(f"no snapshots; take one: rave vm snapshot create {name} NAME")
    app.show.result(documents, *map(snapshot_line, documents))
