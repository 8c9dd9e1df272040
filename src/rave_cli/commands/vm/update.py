"""`rave vm update`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    built_option,
    json_option,
    machine_argument,
    pass_app,
    skip_smoke_option,
)

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@built_option
@skip_smoke_option
@json_option
@pass_app
@audited
def update(app: App, *, name: str, dry_run: bool, built: bool, skip_smoke: bool) -> None:
    """Give the machine NAME the system of its profile's newest image; its data stay.

    The image is built from the checkout, as `rave up` does; without one it is the one that was
    built last. What changes is shown. The machine is stopped, its data are kept as they are then,
    and the new system boots with them, gets its secrets and has to pass the smoke suite. If
    anything of that fails, system and data of before come back by themselves; if not, `rave vm
    rollback` brings them back until the next update.

    \b
    Example: rave vm update demo --dry-run
    Example: rave vm update demo
    """
    from rave_cli.flows import update as flow
    from rave_cli.views.update import difference_lines, updated_lines

    catalog, build = app.catalog(), not built
    with app.show.events() as on_event:
        if dry_run:
            found = flow.look(name, catalog, app.settings, build=build, on_event=on_event)
        else:
            found = flow.update(
                name, catalog, app.settings, build=build, check=not skip_smoke, on_event=on_event
            )
    lines = difference_lines(found)
    app.show.result(found.document(), *lines, *updated_lines(found))
