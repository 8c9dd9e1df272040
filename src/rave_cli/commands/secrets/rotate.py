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
@click.option("--all", "everything", is_flag=True, help="Every secret that rave makes.")
@click.option(
    "--due", is_flag=True, help="Those that have had theirs for over a quarter of a year."
)
@secrets_file_option
@json_option
@pass_app
@audited
def rotate(
    app: App, names: tuple[str, ...], everything: bool, due: bool, file: Path | None
) -> None:
    """Give secrets new values in the file; `rave secrets install` then brings them to a machine.

    --due leaves out those whose new value would lose something or renew nothing, such as keys that
    data are encrypted with, and does nothing if none is due.

    \b
    Example: rave secrets rotate redis/password
    Example: rave secrets rotate --due
    """
    from rave_cli.secrets import identity, listing, store
    from rave_cli.secrets.init import rotate as renew

    if [bool(names), everything, due].count(True) != 1:
        raise click.UsageError("Name the secrets to rotate, or give --due or --all.")
    catalog, place = app.catalog().secrets, store.place(file)
    made = tuple(name for name, secret in catalog.items() if not secret.given)
    wanted = listing.due(place, catalog) if due else names or made
    changed: tuple[str, ...] = ()
    if wanted:
        with app.show.progress("Making new values"):
            changed = renew(place, catalog, wanted, identity.load())
    told = "new values:" if changed else "no secret is due"
    document = {"file": str(place), "changed": list(changed)}
    app.show.result(document, told, *(f"  {name}" for name in changed))
    if changed:
        app.show.note("rave secrets install NAME   brings them to a machine")
