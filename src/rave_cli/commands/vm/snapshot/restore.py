"""`rave vm snapshot restore`."""

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
def restore(app: App, name: str, snapshot: str) -> None:
    """Put a machine back to a snapshot. What its disk and memory are now is lost.

    It is stopped or suspended afterwards, as it was then stopped or running. The snapshot stays.

    \b
    Example: rave vm snapshot restore demo before-upgrade
    """
    from rave_cli.machines import snapshots, store

    found = snapshots.restore(store.load(name), snapshot)
    state, verb = ("suspended", "resume") if found.record.state else ("stopped", "start")
    app.show.note(f"next: rave vm {verb} {name}")
    document = {"name": name, "snapshot": snapshot, "state": state}
    app.show.result(document, f"{name} is as it was at {snapshot}: {state}")
