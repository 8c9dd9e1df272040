"""`rave user show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app, user_argument

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@user_argument
@json_option
@pass_app
def show(app: App, name: str, user: str) -> None:
    """Show the account USER of the machine NAME.

    \b
    Example: rave user show dev alice
    """
    from rave_cli.flows import accounts
    from rave_cli.views.account import account_lines

    answer = accounts.ask(name, "show", user=user)
    app.show.result(answer.document(name), *(account_lines(answer.user) if answer.user else ()))
