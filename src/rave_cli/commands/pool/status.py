"""`rave pool status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@endpoint_option
@json_option
@pass_app
def status(app: App, endpoint: str | None) -> None:
    """Show how the pool stands: who serves it, what runs, how many jobs wait and how long already.

    \b
    Example: rave pool status
    """
    from rave_cli.pool.access.reach import reach
    from rave_cli.views.pool import status_document, status_lines

    with reach(endpoint) as pool:
        document = status_document(pool.standing())
    app.show.result(document, *status_lines(document))
