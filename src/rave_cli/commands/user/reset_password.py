"""`rave user reset-password`."""

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
@password_option
@json_option
@pass_app
@audited
def reset_password(app: App, name: str, user: str, with_password: bool) -> None:
    """Give the account USER a new password that is used once; its tokens are revoked.

    It is shown on a terminal, or in the answer of --json if --with-password asks for it.

    \b
    Example: rave user reset-password dev alice
    """
    from rave_cli.errors import ExitCode, RaveError
    from rave_cli.flows import accounts
    from rave_cli.views.account import password_lines, shows_password

    if not shows_password(app.show, asked=with_password):
        raise RaveError(
            "nobody would see the new password here",
            hint="run it on a terminal, or with --json --with-password",
            exit_code=ExitCode.USAGE,
        )
    answer = accounts.ask(name, "reset-password", user=user)
    text = f"{name}: {user} has a new password"
    if left := accounts.sessions_left(
        user, answer, again=f"rave user reset-password {name} {user}"
    ):
        app.show.warning(left)
    app.show.result(answer.document(name), text, *password_lines(answer))
