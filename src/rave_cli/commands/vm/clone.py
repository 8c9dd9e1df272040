"""`rave vm clone`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.argument("new")
@click.option("--snapshot", metavar="SNAPSHOT", help="The disk as it is in this snapshot of it.")
@json_option
@pass_app
@audited
def clone(app: App, name: str, new: str, *, snapshot: str | None) -> None:
    """Make a machine NEW with a copy of another's disk; it is stopped.

    It has an identity of its own, the original's data and none of its secrets. One that runs is
    cloned by way of a snapshot.

    \b
    Example: rave vm clone demo second
    Example: rave vm clone demo second --snapshot before-upgrade
    """
    from rave_cli.machines import cloning, store

    made = cloning.clone(store.load(name), new, snapshot=snapshot)
    document = {"name": made.name, "original": name, "directory": str(made.directory)}
    app.show.note(f"next: rave vm start {new}; rave secrets install {new}")
    app.show.result(document, f"machine {new} made with a copy of the disk of {name}")
