"""`rave backup verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete_machine)
@click.option("--quick", is_flag=True, help="Look at what is there without reading all of it.")
@click.option(
    "--restore", "restored", is_flag=True,
    help="Restore the latest backup of NAME into a machine that is made for it and deleted then.",
)  # fmt: skip
@json_option
@pass_app
@audited
def verify(app: App, name: str | None, *, quick: bool, restored: bool) -> None:
    """Look whether the backups are what was written: each byte that is kept, the latest backup of
    each machine (or of NAME) from its beginning to its end, and whether PostgreSQL's log leads on
    from it without a gap.

    Exit code 7 if anything is not. With --restore it is restored instead, until all services are
    healthy with it, and it is said how long that took.

    \b
    Example: rave backup verify
    Example: rave backup verify dev --restore
    """
    if restored:
        _restore(app, name)
        return
    from rave_cli.flows import vault

    with app.show.events() as on_event:
        done = vault.verify(name, app.settings, everything=not quick, on_event=on_event)
    names = [one.name for one in done.backups]
    document = {"sound": True, "everything": done.everything, "backups": names}
    document |= {"logs": len(done.chains), "logGaps": len(done.gaps)}
    read = "read to the last byte" if done.everything else "not read"
    app.show.result(document, f"sound ({read}): {', '.join(names) or 'no backups'}")


def _restore(app: App, name: str | None) -> None:
    from rave_cli.flows import restore_test

    if name is None:
        raise click.UsageError("--restore takes a machine's NAME: each takes a machine of its own.")
    with app.show.events() as on_event:
        done = restore_test.prove(name, app.settings, app.catalog(), on_event=on_event)
    text = f"{done.backup.name} can be restored: {', '.join(done.services)}, RTO {done.rto:.1f} s"
    app.show.result(done.document(), text)
