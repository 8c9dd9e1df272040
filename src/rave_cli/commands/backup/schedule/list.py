"""`rave backup schedule list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@json_option
@pass_app
def list_(app: App) -> None:
    """List what is backed up when, and what wakes rave up for it.

    \b
    Example: rave backup schedule list
    """
    from rave_cli.flows import backup_schedule
    from rave_cli.views.backup import SCHEDULE, schedule_document, schedule_row

    found = backup_schedule.listed().schedules
    waking = backup_schedule.waking_now(app.settings)
    document = {
        "schedules": [schedule_document(one) for one in found], "waking": waking.document()
    }  # fmt: skip
    rows = [schedule_row(one) for one in found]
    app.show.result(document, *(app.show.table(SCHEDULE, rows) if rows else ()))
    if not found:
        app.show.note("nothing is backed up by itself: rave backup schedule set NAME")
    elif not waking.running:
        app.show.warning(f"no timer of systemd runs; for cron: {waking.lines}")
