"""`rave vm prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app, yes_option

if TYPE_CHECKING:
    from rave_cli.machines.leftovers import Leftover
    from rave_cli.options import App


@click.command()
@click.option("--images", is_flag=True, help="Also images that no machine is made from.")
@click.option("--templates", is_flag=True, help="Also the templates that machines start from.")
@click.option("--dry-run", is_flag=True, help="Only show what there is.")
@yes_option
@json_option
@pass_app
@audited
def prune(app: App, *, images: bool, templates: bool, dry_run: bool, yes: bool) -> None:
    """Remove what dead machines and killed commands left behind; it is shown and asked about first.

    That is: sockets of machines that do not run, machines and templates that a killed command half
    created or half deleted. Machines, their disks, keys and logs are no leftovers, stopped or not.

    An image that is given up is built again when it is needed; its space in the Nix store comes
    back with the next `nix-collect-garbage`.

    \b
    Example: rave vm prune --dry-run
    """
    from rave_cli.machines import leftovers
    from rave_cli.machines.templates import pruning
    from rave_cli.views.consent import agreed

    found = [*leftovers.find(images=images), *pruning.find(templates=templates)]
    for leftover in found:
        app.show.note(_line(leftover))
    removed: list[Leftover] = []
    if not dry_run and found and agreed(app.show, f"Remove these {len(found)}?", yes=yes):
        removed = [
            leftover
            for leftover in found
            if (pruning if leftover.kind == "template" else leftovers).remove(leftover)
        ]
    documents = [entry.document | {"removed": entry in removed} for entry in found]
    what = "nothing to remove" if not found else f"{len(removed)} of {len(found)} removed"
    app.show.result(documents, what)


def _line(leftover: Leftover) -> str:
    return f"{leftover.place} ({leftover.size / (1 << 20):.1f} MiB): {leftover.why}"
