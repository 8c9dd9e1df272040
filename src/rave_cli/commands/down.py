"""`rave down`: the end of what `rave up` began."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("name", required=False, shell_complete=complete_machine)
@json_option
@pass_app
@audited
def down(app: App, name: str | None) -> None:
    """Stop the machine that `rave up` launched; `rave up` brings it back as it was.

    Without NAME it is the machine of the default profile.

    \b
    Example: rave down
    """
    from rave_cli.flows import machine
    from rave_cli.machines import store

    found = store.load(name or app.settings.text("RAVE_PROFILE"))
    with app.show.events() as on_event:
        report = machine.stop(found, on_event=on_event)
    document = {"name": found.name} | report.document
    text = f"{found.name} is stopped; rave up brings it back, rave vm delete {found.name} ends it"
    app.show.result(document, text)
