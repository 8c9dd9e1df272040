"""`rave vm launch-local`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.options import (
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
@click.option(
    "--no-wait",
    is_flag=True,
    help="With --warm: it is enough that it runs commands; its services come up after those.",
)
@json_option
@pass_app
@audited
def launch_local(
    app: App,
    /,
    dry_run: bool,
    keep_running: bool,
    warm: bool,
    no_wait: bool,
    **asked: Any,  # noqa: ANN401 - the options of machine_options
) -> None:
    """Create a machine and start it: `create` and `start` in one. Builds a missing image.

    Interrupted or failed, it ends QEMU and leaves a stopped machine that `start` takes up again.

    \b
    Example: rave vm launch-local --profile demo --base debian
    Example: rave vm launch-local --profile demo --name web --port 8443:3002 --memory 3072
    Example: rave vm launch-local --profile demo --name two --warm
    Example: rave vm launch-local --profile demo --name two --warm --no-wait
    """
    from rave_cli.flows import machine, templates
    from rave_cli.views.machine import show_command, show_ready

    if no_wait and not warm:
        raise click.UsageError("--no-wait is for --warm: what boots runs no command earlier")
    wanted = app.new_machine(asked)
    if dry_run:
        show_command(app.show, machine.dry_run(wanted))
        return
    with app.show.events() as on_event:
        ready = (
            templates.launch(wanted, app.settings, on_event=on_event, wait=not no_wait)
            if warm
            else machine.launch(wanted, app.settings, on_event=on_event, keep_running=keep_running)
        )
    show_ready(app.show, ready)
