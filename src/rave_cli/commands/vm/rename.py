"""`rave vm rename`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.argument("new", metavar="NEW")
@json_option
@pass_app
@audited
def rename(app: App, name: str, new: str) -> None:
    """Give a stopped machine another name. Its disk, keys, secrets and logs go with it, its backups
    and their schedule, too.

    \b
    Example: rave vm rename demo web
    """
    from rave_cli.flows import rename as flow

    flow.rename(name, new)
    app.show.result({"name": new, "renamedFrom": name}, f"{name} is now {new}")
