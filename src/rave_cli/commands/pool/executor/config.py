"""`rave pool executor config`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@json_option
@pass_app
def config(app: App) -> None:
    """Say where builds lie in their machines: `config_exec` of a runner.

    It prints the JSON that the runner expects, with --json and without.

    \b
    Example: rave pool executor config
    """
    import json

    from rave_cli.pool.builds import stages

    document = stages.config()
    app.show.result(document, json.dumps(document))
