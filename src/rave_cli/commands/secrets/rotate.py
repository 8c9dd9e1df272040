"""`rave secrets rotate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_secret, json_option, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App
    from rave_cli.secrets.overlap import Previous


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_secret)
@click.option("--all", "everything", is_flag=True, help="Every secret that rave makes.")
@click.option(
    "--due", is_flag=True, help="Those that have had theirs for over a quarter of a year."
)
@click.option(
    "--keep-previous", "keep", is_flag=True,
    help="Let the value before count, too: of webhooks, until their sender has the new one.",
)  # fmt: skip
@click.option(
    "--forget-previous", "forget", is_flag=True,
    help="Make no new value: the one before counts no longer.",
)  # fmt: skip
@secrets_file_option
@json_option
@pass_app
@audited
def rotate(
    app: App,
    names: tuple[str, ...],
    *,
    everything: bool,
    due: bool,
    keep: bool,
    forget: bool,
    file: Path | None,
) -> None:
    """Give secrets new values in the file; `rave secrets install` then brings them to a machine.

    --due leaves out those whose new value would lose something or renew nothing, such as keys that
    data are encrypted with, and does nothing if none is due.

    What somebody else may know by now is refused at once. Where only a sender of webhooks has to
    be told, --keep-previous lets both count until --forget-previous.

    \b
    Example: rave secrets rotate redis/password
    Example: rave secrets rotate webhook/github-secret --keep-previous
    Example: rave secrets rotate --due
    """
    from rave_cli.secrets import identity, listing, store
    from rave_cli.secrets.init import rotate as renew

    if [bool(names), everything, due].count(True) != 1:
        raise click.UsageError("Name the secrets to rotate, or give --due or --all.")
    if (keep or forget) and not names:
        raise click.UsageError("--keep-previous and --forget-previous go with names.")
    if keep and forget:
        raise click.UsageError("Either --keep-previous or --forget-previous.")
    previous: Previous = "kept" if keep else "forgotten" if forget else "refused"
    catalog, place = app.catalog().secrets, store.place(file)
    made = tuple(name for name, secret in catalog.items() if not secret.given)
    wanted = listing.due(place, catalog) if due else names or made
    changed: tuple[str, ...] = ()
    if wanted:
        with app.show.progress("Making new values"):
            changed = renew(place, catalog, wanted, identity.load(), previous=previous)
    none = "no value before counts" if forget else "no secret is due"
    told = ("one value counts again:" if forget else "new values:") if changed else none
    document = {"file": str(place), "changed": list(changed)}
    app.show.result(document, told, *(f"  {name}" for name in changed))
    if changed:
        app.show.note("rave secrets install NAME   brings them to a machine")
    if keep and changed:
        text = "when the sender has the new one: rave secrets rotate --forget-previous"
        app.show.note(f"{text} {' '.join(changed)}, and install again")
