"""`rave events replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.argument("events", metavar="[EVENT]...", nargs=-1, type=click.UUID)
@click.option("--dead", "every_dead", is_flag=True, help="All that the stream did not take.")
@json_option
@pass_app
@audited
def replay(app: App, *, name: str, events: tuple[object, ...], every_dead: bool) -> None:
    """Hand events of the machine NAME over to its stream again.

    Consumers see them once more, under the same event_uuid: whoever has acted on one knows it.

    \b
    Example: rave events replay dev --dead
    """
    from rave_cli.flows import webhooks

    if bool(events) == every_dead:
        raise click.UsageError("Name events, or say --dead.")
    if len(events) > webhooks.MOST:
        raise click.UsageError(f"At most {webhooks.MOST} events can be named at once.")
    count = webhooks.replay(name, [str(event) for event in events])
    app.show.result({"machine": name, "replayed": count}, f"{name}: {count} handed over again")
