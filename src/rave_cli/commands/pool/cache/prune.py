"""`rave pool cache prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option(
    "--unused", type=click.FloatRange(min=0), default=30, show_default=True, metavar="DAYS",
    help="Remove those that no job had for so long.",
)  # fmt: skip
@click.option(
    "--most", type=click.IntRange(min=0), metavar="GIB",
    help="Remove those used longest ago, too, until the rest takes no more.",
)  # fmt: skip
@json_option
@pass_app
@audited
def prune(app: App, unused: float, most: int | None) -> None:
    """Remove caches that are of no use any more. Whoever serves keeps to --most-cache by itself.

    \b
    Example: rave pool cache prune --unused 7 --most 10
    """
    import sys

    from rave_cli.pool.files import caches
    from rave_cli.views.cache import cache_document

    room = sys.maxsize if most is None else most << 30
    gone = caches.prune(room, unused=unused * 86400)
    if not gone:
        app.show.note("nothing to remove")
    lines = [f"cache {one.key} of {one.owner} is removed" for one in gone]
    app.show.result([cache_document(one) for one in gone], *lines)
