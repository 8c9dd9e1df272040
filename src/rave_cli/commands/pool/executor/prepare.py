"""`rave pool executor prepare`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@json_option
@pass_app
@audited
def prepare(app: App) -> int:
    """Get a build its machine: `prepare_exec` of a runner.

    It waits for the build's turn in the pool, and says for what. Ends with SYSTEM_FAILURE_EXIT_CODE
    if there is none.

    \b
    Example: rave pool executor prepare
    """
    from rave_cli.errors import RaveError
    from rave_cli.pool.builds import asked, stages
    from rave_cli.pool.jobs.store import open_store

    try:
        build = asked.read(os.environ)
        with open_store() as store:
            stages.prepare(store, build, app.show.note)
    except RaveError as error:
        app.show.error(error)
        return asked.failures(os.environ)[1]
    app.show.result({"build": build.build}, f"build {build.build} has a machine")
    return 0
