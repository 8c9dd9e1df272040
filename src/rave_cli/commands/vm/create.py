"""`rave vm create`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_options, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_options
@json_option
@pass_app
@audited
def create(app: App, /, **asked: Any) -> None:  # noqa: ANN401 - the options of machine_options
    """Make a machine: overlay disk, host key, login key and age identity. It is not started.

    \b
    Example: rave vm create --profile demo --base debian --name web
    """
    from rave_cli.flows import machine
    from rave_cli.machines import status

    with app.show.events() as on_event:
        made = machine.create(app.new_machine(asked), app.settings, on_event=on_event)
    app.show.note(f"start it: rave vm start {made.name}")
    app.show.result(status.of(made).document, made.name)
