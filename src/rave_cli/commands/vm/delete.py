"""`rave vm delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option("--force", is_flag=True, help="Even if it runs or its record is damaged.")
@json_option
@pass_app
def delete(app: App, name: str, force: bool) -> None:
    """Delete a machine with its disk, keys and logs. The image stays.

    \b
    Example: rave vm delete demo
    """
    from rave_cli.machines import lifecycle

    lifecycle.delete(name, force=force)
    app.show.result({"name": name, "deleted": True}, f"{name} deleted")
