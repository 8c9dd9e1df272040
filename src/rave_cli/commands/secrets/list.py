"""`rave secrets list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App


@click.command("list")
@secrets_file_option
@json_option
@pass_app
def list_(app: App, file: Path | None) -> None:
    """Show every secret: its owner and place in the guest, and whether the file has it.

    Needs no key, and never shows a value.

    \b
    Example: rave secrets list
    """
    from rave_cli.secrets import store
    from rave_cli.secrets.listing import listing

    found = listing(store.place(file), app.catalog().secrets)
    rows = [
        (entry.name, entry.owner, entry.path, "yes" if entry.present else "no")
        for entry in found.entries
    ]
    app.show.note(f"file: {found.file}   your recipient: {found.recipient or 'none yet'}")
    columns = ("secret", "owner", "place in the guest", "in the file")
    app.show.result(found.document(), *app.show.table(columns, rows))
