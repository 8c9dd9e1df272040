"""`rave pool executor cleanup`."""

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
def cleanup(app: App) -> int:
    """Delete the machine of a build: `cleanup_exec` of a runner.

    The job of the build ends as that did; one whose machine does not answer is cancelled.

    \b
    Example: rave pool executor cleanup
    """
    from rave_cli.errors import RaveError
    from rave_cli.pool.builds import asked, stages
    from rave_cli.pool.jobs.store import open_store

    try:
        build = asked.read(os.environ)
        with open_store() as store:
            stages.cleanup(store, build)
    except RaveError as error:
        app.show.error(error)
        return asked.failures(os.environ)[1]
    app.show.result({"build": build.build}, f"build {build.build} is over")
    return 0
