"""`rave prune`: space that comes back when rave makes the same again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app, updates_option, yes_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@updates_option
@click.option("--dry-run", is_flag=True, help="Only show what there is.")
@yes_option
@json_option
@pass_app
@audited
def prune(app: App, *, updates: bool, dry_run: bool, yes: bool) -> None:
    """Give back the space of what rave can make again; it is shown and asked about first.

    That is: images that no machine is made from, the templates that machines start from, and what
    dead machines and killed commands left behind. Machines, their disks, snapshots, keys, secrets,
    backups and transcripts stay, whatever state they are in.

    Whoever is not root has a Nix store of rave's own, which is cleaned, too. The host's is its
    owner's: what images held there comes back with `nix-collect-garbage`.

    What updates keep, so that they can be taken back, and what rollbacks set aside, are machines'
    data: only --updates removes them.

    \b
    Example: rave prune --dry-run
    """
    from rave_cli.flows import pruning
    from rave_cli.images import garbage
    from rave_cli.views.pruning import shown_and_removed

    found = pruning.find(images=True, templates=True, updates=updates)
    removed, documents, what = shown_and_removed(app.show, found, dry_run=dry_run, yes=yes)
    declined = bool(found) and not removed
    if not (dry_run or declined) and (said := garbage.collect()):
        what += f"; Nix: {said}"
    elif any(leftover.kind == "image" for leftover in removed):
        what += f"; the host's Nix store keeps what they held until {garbage.COMMAND}"
    app.show.result(documents, what)
