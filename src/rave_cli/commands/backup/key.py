"""`rave backup key`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option("--show", "shown", is_flag=True, help="Print the key itself, to be kept on paper.")
@click.option("--put-back", is_flag=True, help="Take the key from standard input and seal it anew.")
@json_option
@pass_app
@audited
def key(app: App, *, shown: bool, put_back: bool) -> None:
    """Say what opens the backups, and what you have to keep outside of this host.

    The key lies beside what it opens, sealed to the age recipients of your secrets. With --put-back
    it comes from standard input: after a loss, or to seal it to other recipients. It is first seen
    that it opens the backups.

    \b
    Example: rave backup key --show >/dev/lp0
    """
    from rave_cli.backups.engine import KEY_NAME
    from rave_cli.flows import vault
    from rave_cli.secrets import identity

    if shown and put_back:
        raise click.UsageError("Either --show or --put-back.")
    if put_back:
        vault.put_key_back(app.settings, "".join(sys.stdin.readline(200).split()))
    found = vault.key(app.settings)
    place = vault.folder(app.settings)
    document = {"folder": str(place), "key": found if shown else None}
    kept = vault.must_be_kept(place, identity.load().own.place)
    if shown:
        app.show.result(document, found)
        return
    app.show.result(document, f"the key is in {place / KEY_NAME}, and opens {place}", *kept)
