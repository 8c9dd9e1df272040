"""`rave tls trust`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_machine)
@click.option("--apply", "apply_", is_flag=True, help="Do it, for this host's programs.")
@json_option
@pass_app
@audited
def trust(app: App, name: str | None, *, apply_: bool) -> None:
    """Tell how this host comes to trust rave's authority, or with --apply do it.

    It is this login's, can issue for localhost and names below it alone, and its key never leaves
    this host; of a machine NAME with an origin of its own, for that. --apply writes into the
    system's store, which takes root; browsers have stores of their own.

    \b
    Example: rave tls trust
    """
    from rave_cli.flows import trusting
    from rave_cli.views.certificate import trust_lines

    done = trusting.authority_of(name, apply=apply_)
    app.show.result(done.document(), *trust_lines(done))
