"""`rave backup schedule run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option("--logs", is_flag=True, help="Fetch PostgreSQL's logs instead, each four minutes.")
@json_option
@pass_app
def run(app: App, *, logs: bool) -> int:
    """Make the backups that are due, take away what is not kept, and restore what is to be tested.

    For a timer: what failed is tried again an hour later, and keeps no other machine's backup back.
    The exit code is that of the first fault. The audit log tells of what is done, not of each call.

    \b
    Example: rave backup schedule run
    """
    from rave_cli.errors import ExitCode
    from rave_cli.flows import backup_schedule

    if logs:
        with app.show.events() as on_event:
            found = backup_schedule.run_logs(app.settings, on_event=on_event)
        text = f"the logs of {', '.join(found.fetched) or 'no machine'} were fetched"
        app.show.result(found.document(), text)
        return found.failed[0][1].exit_code if found.failed else ExitCode.OK
    with app.show.events() as on_event:
        done = backup_schedule.run_due(app.settings, app.catalog, on_event=on_event)
    if done is None:
        app.show.result({"running": True}, "another run is under way")
        return ExitCode.OK
    lines = [
        *(f"{name} is backed up" for name in done.backed),
        *(f"the latest backup of {name} was restored" for name in done.tested),
        *((f"the backups are copied to {done.copied}",) if done.copied else ()),
        *(f"{name} failed: {fault.message}" for name, fault in done.failed),
    ]
    app.show.result(done.document(), *(lines or ["nothing is due"]))
    return done.failed[0][1].exit_code if done.failed else ExitCode.OK
