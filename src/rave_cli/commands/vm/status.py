"""`rave vm status`."""

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
def status(app: App, name: str) -> None:
    """Show what a machine is doing, as its process, QEMU and its guest tell.

    \b
    Example: rave vm status demo --json
    """
    from rave_cli.machines import status as present
    from rave_cli.machines import store
    from rave_cli.views.machine import plain

    document = present.of(store.load(name)).document
    rows = [(key, plain(value)) for key, value in document.items() if value not in (None, "", {})]
    app.show.result(document, *app.show.table(("", ""), rows))
