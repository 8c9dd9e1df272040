"""`rave user groups`."""

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
@click.option("--add", "more", metavar="GROUP", multiple=True, help="Add to it (repeatable).")
@click.option("--remove", "less", metavar="GROUP", multiple=True, help="Take out (repeatable).")
@json_option
@pass_app
@audited
def groups(app: App, name: str, user: str, more: tuple[str, ...], less: tuple[str, ...]) -> None:
    """Show the groups of the account USER, or change them.

    A group is made when somebody is added to it, and goes with its last member.

    \b
    Example: rave user groups dev alice --add admin --remove staff
    """
    from rave_cli.flows import accounts

    if both := sorted(set(more) & set(less)):
        raise click.UsageError(f"Both --add and --remove name {both[0]}.")
    if more or less:
        answer = accounts.ask(
            name, "groups", user=user, add=sorted(set(more)), remove=sorted(set(less))
        )
    else:
        answer = accounts.ask(name, "show", user=user)
    app.show.result(answer.document(name), *(answer.user.groups if answer.user else ()))
