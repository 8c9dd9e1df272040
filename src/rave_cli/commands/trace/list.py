"""`rave trace list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app, traced_machine_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@traced_machine_option
@click.option(
    "-n", "--most", type=click.IntRange(min=1, max=1000), default=20, show_default=True,
    metavar="N", help="How many at most.",
)  # fmt: skip
@json_option
@pass_app
def list_(app: App, *, name: str | None, most: int) -> None:
    """List the newest traces of a machine: what began each, when, and how long it took.

    \b
    Example: rave trace list --vm dev
    """
    from rave_cli.flows import traces
    from rave_cli.views.spans import trace_table

    machine = traces.machine_of(name)
    found = traces.listed(machine, most=most)
    if not found:
        app.show.note(f"{machine} has kept no traces yet")
    document = {"machine": machine, "traces": [one.model_dump() for one in found]}
    app.show.result(document, *trace_table(app.show, found))
