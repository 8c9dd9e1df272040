"""`rave pool source reconcile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_source, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("name", metavar="SOURCE", shell_complete=complete_source)
@json_option
@pass_app
@audited
def reconcile(app: App, name: str) -> None:
    """Ask the forge of a source now what it has, and note what no hook told of.

    Whoever serves the pool makes jobs of that. What there is at the first time of all was there
    before the source was, and is not built.

    \b
    Example: rave pool source reconcile app
    """
    import time

    from rave_cli.pool.sources import source as sources
    from rave_cli.pool.sources.client import asking
    from rave_cli.pool.sources.keys import SourceSecrets
    from rave_cli.pool.sources.ledger import open_ledger
    from rave_cli.pool.sources.polling import poll

    source = sources.load(name)
    with open_ledger() as ledger, asking(source, SourceSecrets().token(source)) as client:
        first = ledger.poll(name).done is None
        new = poll(ledger, client, time.time)
    said = "what there is now is known, and not built" if first else f"{new} that no hook told of"
    app.show.result({"source": name, "first": first, "new": new}, f"{name}: {said}")
