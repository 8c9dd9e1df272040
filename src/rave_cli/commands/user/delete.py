"""`rave user delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    json_option,
    machine_argument,
    pass_app,
    user_argument,
    yes_option,
)

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@user_argument
@yes_option
@json_option
@pass_app
@audited
def delete(app: App, name: str, user: str, yes: bool) -> None:
    """Delete the account USER of the machine NAME. Somebody is asked first.

    To keep somebody out for a while: rave user disable

    \b
    Example: rave user delete dev alice
    """
    from rave_cli.flows import accounts
    from rave_cli.views.consent import agreed

    if not agreed(app.show, f"Delete the account {user} of {name}?", yes=yes):
        return
    answer = accounts.ask(name, "delete", user=user)
    did = f"{user} deleted" if answer.changed else f"there is no account {user}"
    if left := accounts.sessions_left(user, answer):
        app.show.warning(left)
    app.show.result(answer.document(name), f"{name}: {did}")
