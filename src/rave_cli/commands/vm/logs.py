"""`rave vm logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.logs import JournalQuery
    from rave_cli.machines.spec import Machine
    from rave_cli.options import App


# How much of a guest's journal is shown if nobody says.
JOURNAL_LINES = 1000


@click.command()
@machine_argument
@click.option(
    "--source", type=click.Choice(["console", "qemu", "stages", "journal"]),
    help="Which log; the journal is read over SSH. Else the console, or with --unit or --since the"
    " journal.",
)  # fmt: skip
@click.option("-u", "--unit", "units", multiple=True, metavar="UNIT", help="A unit's journal.")
@click.option("--since", metavar="TIME", help="The journal since then, such as -10min or today.")
@click.option("-n", "--lines", type=click.IntRange(min=1), metavar="N", help="Only the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added until it stops.")
@json_option
@pass_app
def logs(
    app: App,
    name: str,
    *,
    source: str | None,
    units: tuple[str, ...],
    since: str | None,
    lines: int | None,
    follow: bool,
) -> None:
    """Show the console of a machine since its last start, what QEMU or its guest reported, or the
    guest's journal. Nothing in it acts on the terminal.

    \b
    Example: rave vm logs demo --follow
    Example: rave vm logs demo --unit nginx --since -10min --follow
    """
    from rave_cli.machines import store
    from rave_cli.machines.logs import JournalQuery, follow_journal

    chosen = source or ("journal" if units or since else "console")
    if (units or since) and chosen != "journal":
        raise click.UsageError("--unit and --since are for the journal.")
    if follow and app.show.as_json:
        raise click.UsageError("--follow does not go with --json.")
    machine = store.load(name)
    last = lines or (None if since else JOURNAL_LINES)
    query = JournalQuery(units, since, last)
    if follow and chosen == "journal":
        follow_journal(machine, query, app.show.line)
    else:
        _show(app, machine, chosen, _found(machine, chosen, query, lines, follow=follow))
    if follow:
        app.show.note(f"machine {name} is stopped")


def _found(
    machine: Machine, source: str, query: JournalQuery, lines: int | None, *, follow: bool
) -> Iterator[str]:
    from rave_cli.machines import logs as reading

    if source == "journal":
        return reading.journal(machine, query)
    file = {"console": machine.console_log, "qemu": machine.qemu_log, "stages": machine.stage_file}
    return reading.lines(machine, file[source], last=lines, follow=follow)


def _show(app: App, machine: Machine, source: str, found: Iterator[str]) -> None:
    if app.show.as_json:
        app.show.result({"name": machine.name, "source": source, "lines": list(found)})
        return
    for text in found:
        app.show.line(text)
