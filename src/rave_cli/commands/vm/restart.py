"""`rave vm restart`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    chosen,
    json_option,
    keep_option,
    machines_argument,
    pass_app,
    patience_option,
)

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@patience_option
@keep_option
@json_option
@pass_app
@audited
def restart(
    app: App, names: tuple[str, ...], every: bool, patience: float | None, keep_running: bool
) -> int:
    """Stop machines in order and start them again; one that does not run is only started.

    \b
    Example: rave vm restart demo
    """
    from rave_cli.flows import machine
    from rave_cli.machines import store
    from rave_cli.views.machine import note_ready, ready_lines, stopped_line
    from rave_cli.views.several import Outcome, for_each

    def do(name: str) -> Outcome:
        found = store.load(name)
        with app.show.events() as on_event:
            report, ready = machine.restart(
                found, on_event=on_event, patience=patience, keep_running=keep_running
            )
        note_ready(app.show, ready)
        lines = [stopped_line(name, report), *ready_lines(ready, secrets=ready.secrets)]
        return Outcome(ready.document | {"stopped": report.document}, lines)

    wanted = chosen(names, every=every)
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
