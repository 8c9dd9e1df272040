"""`rave vm template create`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    base_option,
    json_option,
    mode_option,
    pass_app,
    profile_option,
    resource_options,
)

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.profiles.names import Mode


@click.command()
@profile_option
@base_option
@mode_option
@resource_options
@json_option
@pass_app
@audited
def create(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    memory: int | None,
    cpus: int | None,
    disk: int | None,
) -> None:
    """Boot a machine and put it away as a template, unless there is one already.

    Machines of the same image, mode and size are started from it with `launch-local --warm`, and by
    `rave up`. It holds no secrets, and no identity that any machine gets.

    \b
    Example: rave vm template create --profile demo --base debian
    """
    from rave_cli.flows import templates
    from rave_cli.flows.machine import NewMachine
    from rave_cli.views.machine import template_line

    mode = mode or app.settings.mode
    plan = app.plan(profile, base, mode)
    wanted = NewMachine(plan, mode, name="template", memory_mib=memory, cpus=cpus, disk_gib=disk)
    with app.show.events() as on_event:
        found = templates.get(wanted, app.settings, on_event=on_event)
    app.show.result(found.document, template_line(found.document))
