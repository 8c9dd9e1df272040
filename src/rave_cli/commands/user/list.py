"""`rave user list`."""

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
    """List the accounts of a machine.

    \b
    Example: rave user list dev
    """
    from rave_cli.flows import accounts
    from rave_cli.views.account import COLUMNS, account_row

    users = accounts.ask(name, "list").users
    if not users:
        app.show.note(f"{name} has no accounts; make one: rave user add {name} USER")
    document = {"machine": name, "users": [user.model_dump() for user in users]}
    table = app.show.table(COLUMNS, [account_row(user) for user in users]) if users else []
    app.show.result(document, *table)
