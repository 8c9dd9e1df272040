"""`rave pool guest remove`."""

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
def remove(app: App, name: str) -> None:
    """Let a machine ask the pool no more, within a second. Its jobs go on: rave pool cancel.

    \b
    Example: rave pool guest remove demo
    """
    from rave_cli.pool.guests import terms

    terms.take_back(name)
    app.show.result({"name": name}, f"machine {name} may not ask the pool any more")
