"""`rave secrets list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App
    from rave_cli.secrets.listing import Listed


@click.command("list")
@secrets_file_option
@json_option
@pass_app
def list_(app: App, file: Path | None) -> None:
    """Show every secret: its owner and place in the guest, and since when the file has it.

    Those that have their value for more than a quarter of a year are due: `rave secrets rotate
    --due` gives them new ones. Needs no key, and never shows a value.

    \b
    Example: rave secrets list
    """
    from rave_cli.secrets import store
    from rave_cli.secrets.listing import listing

    found = listing(store.place(file), app.catalog().secrets)
    rows = [(entry.name, entry.owner, entry.path, _since(entry)) for entry in found.entries]
    app.show.note(f"file: {found.file}   your recipient: {found.recipient or 'none yet'}")
    columns = ("secret", "owner", "place in the guest", "in the file since")
    app.show.result(found.document(), *app.show.table(columns, rows))


def _since(entry: Listed) -> str:
    if not entry.present:
        return "no"
    if entry.since is None:
        return "yes"
    day = entry.since[:10] if entry.made else f"{entry.since[:10]} or before"
    return f"{day}, due" if entry.due else day
