"""`rave pool cache remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("key", metavar="KEY")
@click.option("--owner", metavar="OWNER", help="Only that of this owner; else of whoever has one.")
@json_option
@pass_app
@audited
def remove(app: App, key: str, owner: str | None) -> None:
    """Remove the caches of that key: the next job with it begins with an empty one.

    A job that has one now goes on with it, and leaves it again if it succeeds.

    \b
    Example: rave pool cache remove cargo --owner token:ci
    """
    from rave_cli.errors import ExitCode, RaveError
    from rave_cli.pool.files import caches
    from rave_cli.views.cache import cache_document

    found = [one for one in caches.kept_caches() if one.key == key and owner in (None, one.owner)]
    if not found:
        raise RaveError(
            f"there is no cache {key}" + (f" of {owner}" if owner else ""),
            hint="rave pool cache list",
            exit_code=ExitCode.USAGE,
        )
    caches.remove(found)
    lines = [f"cache {one.key} of {one.owner} is removed" for one in found]
    app.show.result([cache_document(one) for one in found], *lines)
