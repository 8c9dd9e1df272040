"""`rave backup copy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option(
    "--prune", is_flag=True, help="Take away there what the folder does not have any more."
)
@click.option("--check", is_flag=True, help="Read all that is there instead, to the last byte.")
@click.option("--mend", is_flag=True, help="With --check: replace what is damaged there.")
@json_option
@pass_app
@audited
def copy(app: App, *, prune: bool, check: bool, mend: bool) -> None:
    """Copy the folder of backups to another place, over SFTP or with S3: what it lacks.

    The place is a secret of your secrets file, backup-copy/place, with what it wants to see.
    Nothing is taken away there but with --prune, and nothing is readable there without the key. A
    copy that was ended goes on where it was; the schedule copies after each backup, and each hour.

    With --check all that is there is read, and seen by its sums to be what was written. Exit code 7
    if something is not; --mend replaces that from the folder.

    \b
    Example: rave backup copy
    Example: rave backup copy --check
    """
    from rave_cli.flows import away
    from rave_cli.views.backup import size_of

    if mend and not check:
        raise click.UsageError("--mend goes with --check.")
    if prune and check:
        raise click.UsageError("Either --prune or --check.")
    if check:
        _check(app, mend=mend)
        return
    with app.show.events() as on_event:
        done = away.copy(app.settings, prune=prune, on_event=on_event)
    text = f"{done.place} has all {done.objects} objects ({size_of(done.size)})"
    more = f"{done.written} of them are new ({size_of(done.written_bytes)})"
    app.show.result(done.document(), f"{text}, {more}, in {done.seconds:.1f} s")
    if done.gone:
        app.show.note(f"{done.gone} went")
    if done.extra:
        app.show.note(f"{done.extra} more are there alone; --prune takes them away")


def _check(app: App, *, mend: bool) -> None:
    from rave_cli.flows import away
    from rave_cli.views.backup import size_of

    with app.show.events() as on_event:
        found = away.check(app.settings, mend=mend, on_event=on_event)
    document = {
        "sound": True,
        "objects": found.objects,
        "bytes": found.size,
        "mended": list(found.mended),
        "missing": len(found.missing),
    }
    app.show.result(document, f"sound: {found.objects} objects ({size_of(found.size)})")
    if found.missing:
        app.show.note(f"{len(found.missing)} are not there yet: rave backup copy")
