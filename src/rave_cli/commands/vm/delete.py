"""`rave vm delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import chosen, json_option, machines_argument, pass_app, yes_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@click.option("--force", is_flag=True, help="Even if it runs or its record is damaged.")
@yes_option
@json_option
@pass_app
@audited
def delete(app: App, names: tuple[str, ...], every: bool, force: bool, yes: bool) -> int:
    """Delete machines with their disks, keys and logs. Images stay; so do protected machines.

    With --all somebody is asked first.

    \b
    Example: rave vm delete demo
    """
    from rave_cli.machines import lifecycle
    from rave_cli.views.consent import agreed
    from rave_cli.views.several import Outcome, for_each

    def do(name: str) -> Outcome:
        lifecycle.delete(name, force=force)
        return Outcome({"name": name, "deleted": True}, [f"{name} deleted"])

    wanted = chosen(names, every=every)
    if every and wanted and not agreed(app.show, f"Delete {', '.join(wanted)}?", yes=yes):
        return 0
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
