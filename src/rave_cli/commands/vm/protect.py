"""`rave vm protect`."""

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
def protect(app: App, names: tuple[str, ...], every: bool) -> int:
    """Protect machines: `delete` and `up --fresh` refuse them until `unprotect` lifts it.

    They can be started, stopped and changed as before.

    \b
    Example: rave vm protect demo
    """
    from rave_cli.machines import changes
    from rave_cli.views.several import Outcome, for_each

    def do(name: str) -> Outcome:
        changes.protect(name, protected=True)
        return Outcome({"name": name, "protected": True}, [f"{name} is protected from deletion"])

    wanted = chosen(names, every=every)
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
