"""`rave oauth show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import client_argument, json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@client_argument
@json_option
@pass_app
def show(app: App, name: str, client: str) -> None:
    """Show the client CLIENT of the machine NAME.

    \b
    Example: rave oauth show dev rave-smoke
    """
    from rave_cli.flows import clients
    from rave_cli.views.client import client_lines

    found = clients.show(name, client)
    app.show.result({"machine": name, "client": found.model_dump()}, *client_lines(found))
