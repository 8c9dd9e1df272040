"""`rave pool source show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import complete_source, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("name", metavar="SOURCE", shell_complete=complete_source)
@click.option(
    "-n", "--most", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N",
    help="How many revisions at most, the newest first.",
)  # fmt: skip
@json_option
@pass_app
def show(app: App, name: str, most: int) -> None:
    """Show a source, and what became of what its forge told.

    waiting: to become a job. made: it has one. seen: it was there before the source was. failed:
    its commit cannot be fetched.

    \b
    Example: rave pool source show app
    """
    from rave_cli.pool.sources import source as sources
    from rave_cli.pool.sources.ledger import open_ledger
    from rave_cli.views.source import revision_document, source_document, source_lines

    source = sources.load(name)
    with open_ledger() as ledger:
        poll, known = ledger.poll(name), ledger.revisions(name, most)
    document = source_document(source, poll)
    document["revisions"] = [revision_document(one) for one in known]
    app.show.result(document, *source_lines(app.show, source, poll, known))
