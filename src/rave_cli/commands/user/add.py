"""`rave user add`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    json_option,
    machine_argument,
    pass_app,
    password_option,
    user_argument,
)

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@user_argument
@click.option("--name", "title", metavar="TEXT", help="The person's name; else USER.")
@click.option("--email", metavar="ADDRESS", default="", help="The person's address.")
@click.option("--group", "groups", metavar="GROUP", multiple=True, help="A group (repeatable).")
@password_option
@json_option
@pass_app
@audited
def add(
    app: App,
    *,
    name: str,
    user: str,
    title: str | None,
    email: str,
    groups: tuple[str, ...],
    with_password: bool,
) -> None:
    """Make the account USER in the machine NAME, with a password that is used once.

    The password is shown on a terminal alone; elsewhere the account gets none, until
    `rave user reset-password` gives it one. Making the same account again changes nothing.

    \b
    Example: rave user add dev alice --name "Alice Liddell" --group staff
    """
    from rave_cli.flows import accounts
    from rave_cli.views.account import password_lines, shows_password

    shown = shows_password(app.show, asked=with_password)
    answer = accounts.ask(
        name, "add", user=user, name=title or user, email=email,
        groups=sorted(set(groups)), password=shown,
    )  # fmt: skip
    did = f"{name}: {user} " + ("added" if answer.changed else "is there already, as you ask")
    app.show.result(answer.document(name), did, *password_lines(answer))
    if answer.changed and not shown:
        app.show.note(f"{user} has no password yet: rave user reset-password {name} {user}")
