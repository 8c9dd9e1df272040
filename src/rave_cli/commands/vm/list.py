"""`rave vm list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app
from rave_cli.views.template import format_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@format_option
@json_option
@pass_app
def list_(app: App, template: str | None) -> None:
    """List all machines: what they do, and what they use of this host.

    Memory is what QEMU really holds, against what its guest may have; CPU is counted since the
    start, in seconds and in percent of one processor.

    \b
    Example: rave vm list
    Example: rave vm list --format '{name} {state} {ports.22}'
    """
    from rave_cli.machines import status
    from rave_cli.views.machine import COLUMNS, machine_rows
    from rave_cli.views.template import lines_of

    line = lines_of(template, status.FIELDS, as_json=app.show.as_json)
    documents = [entry.document for entry in status.of_all()]
    if not documents:
        app.show.note("no machines; make one: rave vm launch-local --profile demo")
    if line is not None:
        app.show.result(None, *map(line, documents))
        return
    table = app.show.table(tuple(COLUMNS), machine_rows(documents)) if documents else []
    app.show.result(documents, *table)
