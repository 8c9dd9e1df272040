"""`rave oauth rotate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    client_argument,
    json_option,
    machine_argument,
    pass_app,
    secrets_file_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App


@click.command()
@machine_argument
@client_argument
@secrets_file_option
@json_option
@pass_app
@audited
def rotate(app: App, name: str, client: str, file: Path | None) -> None:
    """Give the client CLIENT of the machine NAME a new secret, here and there.

    What it was issued with the old one ends. Other machines: `rave secrets install`.

    \b
    Example: rave oauth rotate dev rave-smoke
    """
    from rave_cli.flows import clients
    from rave_cli.secrets.store import place

    with app.show.events() as on_event:
        secrets = app.catalog().secrets
        done = clients.rotate(name, client, place(file), secrets, on_event=on_event)
    app.show.result(done.document(), f"{name}: {client} has a new secret ({done.client.secret})")
