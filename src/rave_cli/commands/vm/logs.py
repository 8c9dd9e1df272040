"""`rave vm logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


# How much of a guest's journal is shown if nobody says.
JOURNAL_LINES = 1000


@click.command()
@machine_argument
@click.option(
    "--source", type=click.Choice(["console", "qemu", "stages", "journal"]), default="console",
    show_default=True, help="Which log; the journal is read over SSH.",
)  # fmt: skip
@click.option("-n", "--lines", type=click.IntRange(min=1), metavar="N", help="Only the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added.")
@json_option
@pass_app
def logs(app: App, name: str, source: str, lines: int | None, follow: bool) -> None:
    """Show the console of a machine since its last start, or what QEMU or its guest reported.

    \b
    Example: rave vm logs demo --follow
    Example: rave vm logs demo --source journal -n 100
    """
    from rave_cli.machines import logs as reading
    from rave_cli.machines import store

    if follow and (app.show.as_json or source == "journal"):
        raise click.UsageError("--follow goes with neither --json nor the journal.")
    machine = store.load(name)
    file = {"console": machine.console_log, "qemu": machine.qemu_log, "stages": machine.stage_file}
    if source == "journal":
        found = reading.journal(machine, lines or JOURNAL_LINES)
    else:
        found = reading.lines(machine, file[source], last=lines, follow=follow)
    if app.show.as_json:
        app.show.result({"name": name, "source": source, "lines": list(found)})
    else:
        for text in found:
            app.show.line(text)
