"""`rave vm unprotect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import chosen, json_option, machines_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@json_option
@pass_app
@audited
def unprotect(app: App, names: tuple[str, ...], every: bool) -> int:
    """Lift the protection of machines, so that they can be deleted again.

    \b
    Example: rave vm unprotect demo
    """
    from rave_cli.machines import changes
    from rave_cli.views.several import Outcome, for_each

    def do(name: str) -> Outcome:
        changes.protect(name, protected=False)
        return Outcome({"name": name, "protected": False}, [f"{name} is no longer protected"])

    wanted = chosen(names, every=every)
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
