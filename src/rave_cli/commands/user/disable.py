"""`rave user disable`."""

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
def disable(app: App, name: str, user: str) -> None:
    """Let nobody sign in with the account USER; its tokens are revoked. Nothing of it is lost.

    \b
    Example: rave user disable dev alice
    """
    from rave_cli.flows import accounts

    answer = accounts.ask(name, "disable", user=user)
    did = "is disabled" if answer.changed else "was disabled already"
    if left := accounts.sessions_left(user, answer, again=f"rave user disable {name} {user}"):
        app.show.warning(left)
    app.show.result(answer.document(name), f"{name}: {user} {did}")
