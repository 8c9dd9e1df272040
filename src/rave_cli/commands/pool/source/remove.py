"""`rave pool source remove`."""

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
def remove(app: App, name: str) -> None:
    """Forget a source: its forge's hooks are refused, and it is not asked any more.

    Jobs that were made stay, and what it sent is known on: nothing is built again if you add it
    anew.

    \b
    Example: rave pool source remove app
    """
    from rave_cli.pool.sources import source as sources
    from rave_cli.pool.sources.ledger import open_ledger
    from rave_cli.views.source import source_document

    gone = sources.remove(name)
    with open_ledger() as ledger:
        ledger.forget(name)
    app.show.result(source_document(gone), f"source {name} is forgotten")
