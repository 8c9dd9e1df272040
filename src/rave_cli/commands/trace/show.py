"""`rave trace show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app, traced_machine_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("trace_id", metavar="ID")
@traced_machine_option
@json_option
@pass_app
def show(app: App, *, trace_id: str, name: str | None) -> None:
    """Show the trace ID as a tree: after how many seconds each part began, how many it took, which
    service did it, and why it failed.

    ID is what a trace's id begins with, or that of its task or event: the chat names tasks, a merge
    request its trace.

    \b
    Example: rave trace show 3f2a91c4 --vm dev
    """
    from rave_cli.flows import traces
    from rave_cli.views.spans import span_lines

    machine = traces.machine_of(name)
    found = traces.shown(machine, trace_id)
    document = {"machine": machine, **found.model_dump()}
    app.show.result(document, *span_lines(found))
