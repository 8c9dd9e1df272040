"""`rave pool export alerts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@json_option
@pass_app
def alerts(app: App) -> None:
    """Print alert rules for a pool that Prometheus scrapes, as a file that it loads.

    A job waits too long, jobs were given up, machines do not come up, nobody serves, the queue is
    full or silent, traces do not reach their collector. Each fires within 30 s of its cause.

    \b
    Example: rave pool export alerts > rave-pool.yml
    """
    import yaml

    from rave_cli.pool import watching

    text = watching.alerts()
    app.show.result(yaml.safe_load(text), *text.splitlines())
