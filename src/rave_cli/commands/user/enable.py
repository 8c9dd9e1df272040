"""`rave user enable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app, user_argument

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@user_argument
@json_option
@pass_app
@audited
def enable(app: App, name: str, user: str) -> None:
    """Let the account USER sign in again.

    \b
    Example: rave user enable dev alice
    """
    from rave_cli.flows import accounts

    answer = accounts.ask(name, "enable", user=user)
    did = "is enabled" if answer.changed else "was enabled already"
    app.show.result(answer.document(name), f"{name}: {user} {did}")
