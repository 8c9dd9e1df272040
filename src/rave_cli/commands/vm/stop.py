"""`rave vm stop`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    chosen,
    json_option,
    machines_argument,
    pass_app,
    patience_option,
)

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@patience_option
@json_option
@pass_app
@audited
def stop(app: App, names: tuple[str, ...], every: bool, patience: float | None) -> int:
    """Stop machines: power button, then QMP quit, then SIGTERM, then SIGKILL.

    Where QEMU cannot be asked, its guest is told over SSH. A hard end is warned of.

    \b
    Example: rave vm stop demo
    Example: rave vm stop --all
    """
    from rave_cli.flows import machine
    from rave_cli.machines import store
    from rave_cli.views.machine import stopped_line
    from rave_cli.views.several import Outcome, for_each

    def do(name: str) -> Outcome:
        found = store.load(name)
        with app.show.events() as on_event:
            report = machine.stop(found, on_event=on_event, patience=patience)
        return Outcome({"name": name} | report.document, [stopped_line(name, report)])

    wanted = chosen(names, every=every)
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
