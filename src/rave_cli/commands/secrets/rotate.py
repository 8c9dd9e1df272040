"""`rave secrets rotate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_secret, json_option, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_secret)
@click.option("--all", "everything", is_flag=True, help="Every secret of the catalog.")
@secrets_file_option
@json_option
@pass_app
@audited
def rotate(app: App, names: tuple[str, ...], everything: bool, file: Path | None) -> None:
    """Give secrets new values in the file; `rave secrets install` then brings them to a machine.

    \b
    Example: rave secrets rotate redis/password
    """
    from rave_cli.secrets import identity, store
    from rave_cli.secrets.init import rotate as renew

    if bool(names) == everything:
        raise click.UsageError("Name the secrets to rotate, or give --all.")
    catalog, place = app.catalog().secrets, store.place(file)
    with app.show.progress("Making new values"):
        changed = renew(place, catalog, names or tuple(catalog), identity.load())
    app.show.result(
        {"file": str(place), "changed": list(changed)},
        "new values:",
        *(f"  {name}" for name in changed),
    )
