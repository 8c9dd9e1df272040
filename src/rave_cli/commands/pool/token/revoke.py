"""`rave pool token revoke`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("token", metavar="TOKEN")
@json_option
@pass_app
@audited
def revoke(app: App, token: str) -> None:
    """Revoke the token of that number, or all of that name. It holds at once; whoever listens with
    it is sent away within seconds.

    \b
    Example: rave pool token revoke ci
    """
    import time

    from rave_cli.pool.api.tokens import Tokens
    from rave_cli.views.pool import token_document

    gone = Tokens().revoke(token, time.time())
    lines = [f"token {one.number} of {one.name} is revoked" for one in gone]
    app.show.result([token_document(one) for one in gone], *lines)
