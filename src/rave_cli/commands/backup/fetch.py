"""`rave backup fetch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App

LONGEST = 64 << 10  # bytes of a kit


@click.command()
@click.option(
    "--kit", is_flag=True, help="Take the key and the place from standard input, as a kit has them."
)
@click.option(
    "--ca", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="Certificates (PEM) to trust for the place, which a kit does not have.",
)  # fmt: skip
@json_option
@pass_app
@audited
def fetch(app: App, *, kit: bool, ca: Path | None) -> None:
    """Get the folder of backups back from the other place, on a new host.

    The place is that of your secrets file, or with --kit that of the page that you kept. Each
    object is seen by its sum to be what was written; one that is not is left out, and the exit code
    is 7. A call that was ended goes on where it was. Then: rave backup list.

    \b
    Example: rave backup fetch
    Example: age --decrypt KEY.age | rave backup fetch --kit
    """
    from rave_cli.backups.kit import unfolded
    from rave_cli.flows import away
    from rave_cli.views.backup import size_of

    lines = unfolded(sys.stdin.read(LONGEST)) if kit else None
    with app.show.events() as on_event:
        done = away.fetch(app.settings, lines, ca=ca, on_event=on_event)
    came = f"{done.fetched.objects} objects ({size_of(done.fetched.size)}) in {done.seconds:.1f} s"
    app.show.result(done.document(), f"{done.folder} is what is in {done.place}: {came}")
    app.show.note("rave backup verify; rave backup list")
