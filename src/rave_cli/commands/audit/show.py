"""`rave audit show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option(
    "--about", metavar="NAME", shell_complete=complete_machine,
    help="Only what was done to this machine, secret or account.",
)  # fmt: skip
@click.option(
    "--last", "most", type=click.IntRange(min=1), default=20, show_default=True, metavar="N",
    help="So many commands.",
)  # fmt: skip
@json_option
@pass_app
def show(app: App, about: str | None, most: int) -> None:
    """Show the latest commands that changed something or looked into a machine.

    The log is verified first. Values of options and words of commands for a guest are not in it.

    \b
    Example: rave audit show --about demo
    """
    from rave_cli import audit
    from rave_cli.views.audit import COLUMNS, done_document, done_row

    log = audit.read()
    found = [done for done in audit.commands(log.entries) if about is None or done.concerns(about)]
    shown = found[-most:]
    if not shown:
        app.show.note("the audit log tells of no such command")
    table = app.show.table(COLUMNS, list(map(done_row, shown))) if shown else []
    app.show.result({"head": log.head, "commands": list(map(done_document, shown))}, *table)
