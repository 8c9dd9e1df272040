"""`rave vm start`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import dry_run_option, json_option, keep_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option("--memory", type=int, metavar="MIB", help="Give it that much memory from now on.")
@click.option("--disk", type=int, metavar="GIB", help="Grow its disk, which never shrinks.")
@dry_run_option
@keep_option
@json_option
@pass_app
def start(
    app: App,
    name: str,
    *,
    memory: int | None,
    disk: int | None,
    dry_run: bool,
    keep_running: bool,
) -> None:
    """Start a machine and wait until it is ready; join the wait if it is starting already.

    \b
    Example: rave vm start demo
    Example: rave vm start demo --disk 20
    """
    from rave_cli.flows import machine
    from rave_cli.machines import store
    from rave_cli.views.machine import show_command, show_ready

    found = store.load(name)
    if dry_run:
        show_command(app.show, machine.command(found))
        return
    with app.show.events() as on_event:
        found = machine.resize(found, memory_mib=memory, disk_gib=disk, on_event=on_event)
        ready = machine.start(found, on_event=on_event, keep_running=keep_running)
    show_ready(app.show, ready)
