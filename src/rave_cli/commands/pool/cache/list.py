"""`rave pool cache list`."""

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
    """List the caches that jobs have left on this host, what was used last first.

    Only jobs of its owner get one; `left by` is the attempt whose disk it is.

    \b
    Example: rave pool cache list
    """
    from rave_cli.pool.files import caches
    from rave_cli.views.cache import cache_document, cache_rows

    found = caches.kept_caches()
    if not found:
        app.show.note("no caches; a job has one: rave pool run --cache KEY -- COMMAND")
    app.show.result([cache_document(one) for one in found], *cache_rows(app.show, found))
