"""`rave vm rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option("--undo", is_flag=True, help="Put back what was set aside last.")
@json_option
@pass_app
@audited
def rollback(app: App, *, name: str, undo: bool) -> None:
    """Give the machine NAME back the system and the data of before its last update.

    What was written since is not in them. It is set aside with the system that wrote it, nothing
    is deleted, and --undo brings it back. The machine runs afterwards if it ran before.

    \b
    Example: rave vm rollback demo
    Example: rave vm rollback demo --undo
    """
    from rave_cli.flows import update as flow
    from rave_cli.views.update import rolled_back_lines

    with app.show.events() as on_event:
        done = flow.rollback(name, undo=undo, on_event=on_event)
    app.show.result(done.document(), *rolled_back_lines(done))
