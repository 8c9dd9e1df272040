"""`rave events show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.argument("event", metavar="EVENT", type=click.UUID)
@json_option
@pass_app
def show(app: App, name: str, event: object) -> None:
    """Show the event EVENT of the machine NAME, with what the forge sent.

    \b
    Example: rave events show dev 5f0c4c0e-6a51-5f0e-9d0a-0d7c1f6f2a11
    """
    from rave_cli.flows import webhooks
    from rave_cli.views.webhook import event_lines

    found = webhooks.shown(name, str(event))
    app.show.result({"machine": name, "event": found.model_dump()}, *event_lines(found))
