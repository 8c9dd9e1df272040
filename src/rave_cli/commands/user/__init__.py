"""`rave user`: who may sign in to a machine's services, a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "add": Lazy("rave_cli.commands.user.add:add", "Make an account."),
        "list": Lazy("rave_cli.commands.user.list:list_", "The accounts of a machine."),
        "show": Lazy("rave_cli.commands.user.show:show", "One account."),
        "disable": Lazy("rave_cli.commands.user.disable:disable", "Keep somebody out."),
        "enable": Lazy("rave_cli.commands.user.enable:enable", "Let somebody in again."),
        "delete": Lazy("rave_cli.commands.user.delete:delete", "Delete an account."),
        "reset-password": Lazy(
            "rave_cli.commands.user.reset_password:reset_password", "A new one-time password."
        ),
        "groups": Lazy("rave_cli.commands.user.groups:groups", "The groups of an account."),
    },
)
def user() -> None:
    """Accounts of people: who may sign in to the services of a running machine.

    Every change is written down in the machine, in /var/log/rave/accounts.log, with who made it.
    """
