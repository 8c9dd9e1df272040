"""`rave pool export dashboard`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@json_option
@pass_app
def dashboard(app: App) -> None:
    """Print a dashboard of a pool, in JSON, as Grafana imports it or reads it from a folder.

    \b
    Example: rave pool export dashboard > rave-pool.json
    """
    import json

    from rave_cli.pool.watching.dashboard import document

    found = document()
    app.show.result(found, *json.dumps(found, indent=1).splitlines())
