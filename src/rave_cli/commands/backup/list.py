"""`rave backup list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_machine)
@json_option
@pass_app
def list_(app: App, name: str | None) -> None:
    """List the backups of all machines, or of NAME, which need not be there any more.

    \b
    Example: rave backup list dev
    """
    from rave_cli.backups import log
    from rave_cli.flows import vault
    from rave_cli.views.backup import COLUMNS, backup_row

    listing = vault.listed(app.settings)
    found = listing.of_machine(name)
    if not found:
        app.show.note("no backups" if name is None else f"no backups of {name}")
    if listing.broken:
        app.show.note(f"{len(listing.broken)} that broke off: rave backup prune takes them away")
    reached = {
        machine: log.spans(listing.of_machine(machine), log.chains(listing.logs_of(machine)))
        for machine in sorted({one.machine for one in found})
    }
    document = {
        "backups": [one.document() for one in found],
        "broken": len(listing.broken),
        "moments": {
            name: [span.document() for span in spans] for name, spans in reached.items() if spans
        },
    }
    rows = [backup_row(one) for one in found]
    app.show.result(document, *(app.show.table(COLUMNS, rows) if rows else ()))
    for machine, spans in reached.items():
        if spans:
            text = f"PostgreSQL of {machine} at any moment of {'; '.join(map(str, spans))}"
            app.show.note(f"{text}: rave backup restore {machine} --at TIME --to NEW")
