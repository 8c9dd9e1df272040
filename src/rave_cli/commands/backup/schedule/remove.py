"""`rave backup schedule remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@json_option
@pass_app
@audited
def remove(app: App, name: str) -> None:
    """Back the machine NAME up by hand alone from now on. Its backups stay.

    \b
    Example: rave backup schedule remove dev
    """
    from rave_cli.errors import ExitCode, RaveError
    from rave_cli.flows import backup_schedule

    with app.show.events() as on_event:
        gone = backup_schedule.remove(name, on_event=on_event)
    if not gone:
        raise RaveError(
            f"{name} has no schedule",
            hint="rave backup schedule list",
            exit_code=ExitCode.USAGE,
        )
    app.show.result({"machine": name}, f"{name} is backed up by hand alone; its backups stay")
