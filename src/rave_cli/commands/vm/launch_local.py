"""`rave vm launch-local`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.options import (
    audited,
    dry_run_option,
    json_option,
    keep_option,
    machine_options,
    pass_app,
)

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("launch-local")
@machine_options
@dry_run_option
@keep_option
@click.option(
    "--warm",
    is_flag=True,
    help="Start from a template instead of booting; one is made if none fits.",
)
@json_option
@pass_app
@audited
def launch_local(app: App, /, dry_run: bool, keep_running: bool, warm: bool, **asked: Any) -> None:  # noqa: ANN401 - the options of machine_options
    """Create a machine and start it: `create` and `start` in one. Builds a missing image.

    Interrupted or failed, it ends QEMU and leaves a stopped machine that `start` takes up again.

    \b
    Example: rave vm launch-local --profile demo --base debian
    Example: rave vm launch-local --profile demo --name web --port 8443:3002 --memory 3072
    Example: rave vm launch-local --profile demo --name two --warm
    """
    from rave_cli.flows import machine
    from rave_cli.views.machine import show_command, show_ready

    wanted = app.new_machine(asked)
    if dry_run:
        show_command(app.show, machine.dry_run(wanted))
        return
    with app.show.events() as on_event:
        ready = (
            machine.warm(wanted, app.settings, on_event=on_event)
            if warm
            else machine.launch(wanted, app.settings, on_event=on_event, keep_running=keep_running)
        )
    show_ready(app.show, ready)
