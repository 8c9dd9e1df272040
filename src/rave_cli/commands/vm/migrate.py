"""`rave vm migrate`."""

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
@built_option
@skip_smoke_option
@json_option
@pass_app
@audited
def migrate(app: App, *, name: str, built: bool, skip_smoke: bool) -> None:
    """Give the machine NAME, which was made before there were data disks, one.

    It is backed up, its profile's newest image takes the place of its system, and the backup is put
    onto the new data disk. Home directories, the journal and what was installed by hand are not
    taken along. The old disk is kept: if anything fails it comes back by itself, and later with
    `rave vm rollback`.

    \b
    Example: rave vm migrate old
    """
    from rave_cli.flows import migrate as flow
    from rave_cli.views.update import difference_lines, updated_lines

    with app.show.events() as on_event:
        found = flow.migrate(
            name,
            app.catalog(),
            app.settings,
            build=not built,
            check=not skip_smoke,
            on_event=on_event,
        )
    app.show.result(found.document(), *difference_lines(found), *updated_lines(found))
