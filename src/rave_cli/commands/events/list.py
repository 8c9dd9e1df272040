"""`rave events list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import EVENT_STATES, json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@machine_argument
@click.option("--state", type=click.Choice(EVENT_STATES), help="Only events in this state.")
@click.option("--source", metavar="SOURCE", help="Only events of this sender, such as gitlab.")
@click.option(
    "-n", "--most", type=click.IntRange(min=1, max=1000), default=50, show_default=True,
    metavar="N", help="How many at most.",
)  # fmt: skip
@json_option
@pass_app
def list_(app: App, *, name: str, state: str | None, source: str | None, most: int) -> None:
    """List what forges told the machine NAME by webhooks, the newest first.

    accepted: stored, and on its way to the stream. published: the stream has it. dead: the stream
    does not take it.

    \b
    Example: rave events list dev --source gitlab
    """
    from rave_cli.flows import webhooks
    from rave_cli.views.webhook import event_table

    events = webhooks.listed(name, state=state, source=source, most=most)
    if not events:
        app.show.note("no such events")
    document = {"machine": name, "events": [event.model_dump() for event in events]}
    app.show.result(document, *event_table(app.show, events))
