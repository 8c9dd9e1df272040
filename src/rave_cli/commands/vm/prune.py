"""`rave vm prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app, updates_option, yes_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option("--images", is_flag=True, help="Also images that no machine is made from.")
@click.option("--templates", is_flag=True, help="Also the templates that machines start from.")
@updates_option
@click.option("--dry-run", is_flag=True, help="Only show what there is.")
@yes_option
@json_option
@pass_app
@audited
def prune(
    app: App, *, images: bool, templates: bool, updates: bool, dry_run: bool, yes: bool
) -> None:
    """Remove what dead machines and killed commands left behind; it is shown and asked about first.

    That is: sockets of machines that do not run, machines and templates that a killed command half
    created or half deleted. Machines, their disks, keys and logs are no leftovers, stopped or not.

    An image that is given up is built again when it is needed. All of this, and the space in a Nix
    store of your own: rave prune

    \b
    Example: rave vm prune --dry-run
    """
    from rave_cli.flows import pruning
    from rave_cli.views.pruning import shown_and_removed

    found = pruning.find(images=images, templates=templates, updates=updates)
    _, documents, what = shown_and_removed(app.show, found, dry_run=dry_run, yes=yes)
    app.show.result(documents, what)
