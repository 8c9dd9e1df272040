"""`rave oauth clients`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@json_option
@pass_app
def clients(app: App, name: str) -> None:
    """List the services of the machine NAME to which people sign in.

    \b
    Example: rave oauth clients dev
    """
    from rave_cli.flows import clients as flow
    from rave_cli.views.client import COLUMNS, client_row

    found = flow.of(name)
    document = {"machine": name, "clients": [client.model_dump() for client in found]}
    rows = [client_row(client) for client in found]
    app.show.result(document, *(app.show.table(COLUMNS, rows) if rows else ()))
