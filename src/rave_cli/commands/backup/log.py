"""`rave backup log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option("--stop", is_flag=True, help="Fetch nothing: let NAME hold no log any more.")
@json_option
@pass_app
@audited
def log(app: App, name: str, *, stop: bool) -> None:
    """Fetch what PostgreSQL's write-ahead log in the running machine NAME has that is not kept yet.

    With a backup that was made since the first fetch, NAME can be restored to any moment up to the
    last (`rave backup restore --at`). A schedule does it each four minutes: `rave backup schedule
    set NAME --log 7`.

    Until it is fetched, the machine holds 512 MiB of it at most, and gives up the oldest then.

    \b
    Example: rave backup log dev
    """
    from rave_cli.flows import log as flow
    from rave_cli.views.backup import fetched_line

    if stop:
        with app.show.events() as on_event:
            flow.stop(name, on_event=on_event)
        app.show.result({"machine": name, "stopped": True}, f"{name} holds no log any more")
        return
    with app.show.events() as on_event:
        done = flow.fetch(name, app.settings, on_event=on_event)
    app.show.result(done.document(), fetched_line(done))
    if not done.based:
        app.show.warning(
            f"no moment can be reached with it before the next: rave backup now {name}"
        )
