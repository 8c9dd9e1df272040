"""`rave pool executor run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("script", metavar="SCRIPT", type=click.Path(path_type=Path))
@click.argument("stage", metavar="STAGE")
@pass_app
@audited
def run(app: App, script: Path, stage: str) -> int:
    """Run a SCRIPT of a build in its machine: `run_exec` of a runner.

    What it prints is passed on. Sources, caches and artifacts go over this host, since the machine
    reaches no network: their stages are carried out here. Ends with BUILD_FAILURE_EXIT_CODE if the
    script fails, its status in BUILD_EXIT_CODE_FILE, and with SYSTEM_FAILURE_EXIT_CODE if anything
    else does.

    \b
    Example: rave pool executor run /tmp/script build_script
    """
    from rave_cli.errors import RaveError
    from rave_cli.pool.builds import asked, stages

    build_failed, system_failed = asked.failures(os.environ)
    try:
        build = asked.read(os.environ)
        status = stages.run(build, script, stage)
        if status != 0 and build.status_file is not None:
            build.status_file.write_text(f"{stages.plain(status)}\n")
    except RaveError as error:
        app.show.error(error)
        return system_failed
    return build_failed if status else 0
