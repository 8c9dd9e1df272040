"""`rave vm stop`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option(
    "--patience", type=click.FloatRange(min=0), metavar="SECONDS",
    help="Time for the guest's own shutdown (default 30); 0 ends it at once.",
)  # fmt: skip
@json_option
@pass_app
def stop(app: App, name: str, patience: float | None) -> None:
    """Stop a machine: power button, then QMP quit, then SIGTERM, then SIGKILL.

    Where QEMU cannot be asked, its guest is told over SSH. A hard end is warned of.

    \b
    Example: rave vm stop demo
    """
    from rave_cli.flows import machine
    from rave_cli.machines import store

    found = store.load(name)
    with app.show.events() as on_event:
        report = machine.stop(found, on_event=on_event, patience=patience)
    document = {"name": name, "rung": report.rung, "seconds": round(report.seconds, 3)}
    text = f"{name} stopped by {report.rung} after {report.seconds:.1f} s"
    app.show.result(document, f"{name} was not running" if report.rung == "not-running" else text)
