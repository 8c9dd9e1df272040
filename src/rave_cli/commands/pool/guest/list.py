"""`rave pool guest list`."""

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
    """List the machines that may ask the pool, their bounds, and how much they use of them.

    \b
    Example: rave pool guest list
    """
    import time

    from rave_cli.pool.guests import terms
    from rave_cli.pool.guests.answering import HOUR
    from rave_cli.pool.jobs.store import open_store
    from rave_cli.views.guest import guest_document, guest_rows

    found = [one for name in terms.lent() if (one := terms.of(name))]
    if not found:
        app.show.note("no machine may ask the pool; let one: rave pool guest add NAME")
        app.show.result([])
        return
    with open_store() as store:
        since = time.time() - HOUR
        uses = [(one, store.burden(one.owner, since)) for one in found]
    app.show.result([guest_document(*one) for one in uses], *guest_rows(app.show, uses))
