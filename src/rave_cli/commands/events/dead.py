"""`rave events dead`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@json_option
@pass_app
def dead(app: App, name: str) -> None:
    """List the events of the machine NAME that the stream does not take.

    Why is said by `rave events show`. Once the cause is gone: rave events replay NAME --dead

    \b
    Example: rave events dead dev
    """
    from rave_cli.flows import webhooks
    from rave_cli.views.webhook import event_table

    events = webhooks.listed(name, state="dead")
    if not events:
        app.show.note(f"the stream of {name} has taken everything, or still will")
    document = {"machine": name, "events": [event.model_dump() for event in events]}
    app.show.result(document, *event_table(app.show, events))
