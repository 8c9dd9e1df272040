"""`rave pool status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@json_option
@pass_app
def status(app: App) -> None:
    """Show how the pool stands: who serves it, what runs, how many jobs wait and how long already.

    \b
    Example: rave pool status
    """
    from rave_cli.pool import served
    from rave_cli.pool.jobstore import open_store
    from rave_cli.pool.serving import served as is_served
    from rave_cli.views.pool import status_document, status_lines

    there = is_served()
    with open_store() as store:
        document = status_document(
            served.read() if there else None,
            store.scale,
            counts=store.counts(),
            running=store.running(),
            oldest=store.oldest(),
            dead=len(store.dead(1000)),
            served=there,
        )
    app.show.result(document, *status_lines(document))
