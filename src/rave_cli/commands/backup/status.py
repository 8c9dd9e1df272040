"""`rave backup status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_machine)
@json_option
@pass_app
def status(app: App, name: str | None) -> int:
    """Say whether the backups of all machines, or of NAME, are as they should be.

    What is late, failed, was never restored to see whether it can be, or grows oddly is told with
    the command that helps. Exit code 1 if there is any of it.

    \b
    Example: rave backup status --json
    """
    from rave_cli.errors import ExitCode
    from rave_cli.flows import backup_status
    from rave_cli.views.backup import STANDING, standing_row

    found = backup_status.report(name, app.settings)
    rows = [standing_row(one) for one in found.machines]
    app.show.result(found.document(), *(app.show.table(STANDING, rows) if rows else ()))
    for finding in (finding for one in found.machines for finding in one.findings):
        app.show.warning(f"{finding.text}: {finding.advice}")
    for gone in found.unknown:
        app.show.warning(
            f"{gone} has a schedule and is not there any more: rave backup schedule remove {gone}"
        )
    for left in found.pending:
        app.show.warning(f"a restore into {left.to} has not ended: {left.command}")
    if found.copy is not None:
        app.show.warning(f"{found.copy}: rave backup copy")
    if found.kit is not None:
        app.show.note(f"{found.kit}: rave backup kit FILE")
    if not found.machines:
        app.show.note("no machine that is there has backups")
    return ExitCode.OK if found.well else ExitCode.CHECK_FAILED
