"""`rave pool source list`."""

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
    """List the sources, and how the last poll of each went.

    \b
    Example: rave pool source list
    """
    from rave_cli.pool.sources import source as sources
    from rave_cli.pool.sources.ledger import open_ledger
    from rave_cli.views.source import source_document, source_rows

    found = sources.read()
    if not found:
        app.show.note("no sources; add one: rave pool source add --help")
        app.show.result([])
        return
    with open_ledger() as ledger:
        polls = {one.name: ledger.poll(one.name) for one in found}
    documents = [source_document(one, polls[one.name]) for one in found]
    app.show.result(documents, *source_rows(app.show, found, polls))
