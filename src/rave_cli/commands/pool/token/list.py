"""`rave pool token list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@json_option
@pass_app
def list_(app: App) -> None:
    """List the tokens, those that may not be used any more for 30 days longer.

    \b
    Example: rave pool token list
    """
    from rave_cli.pool.api.tokens import Tokens
    from rave_cli.views.pool import token_document, token_rows

    tokens = Tokens().all()
    if not tokens:
        app.show.note("no tokens; make one: rave pool token create NAME")
    app.show.result([token_document(one) for one in tokens], *token_rows(app.show, tokens))
