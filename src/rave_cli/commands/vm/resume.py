"""`rave vm resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option("--cold", is_flag=True, help="Give the saved memory up and start anew.")
@json_option
@pass_app
def resume(app: App, name: str, *, cold: bool) -> None:
    """Let a suspended machine go on where it was, with its clock set.

    Only the QEMU, rave, processor and disk that it was suspended with can take it up. Where one is
    another and cannot be put back, --cold starts the machine anew, as after a power cut.

    \b
    Example: rave vm resume demo
    """
    from rave_cli.flows import machine
    from rave_cli.machines import store, suspend
    from rave_cli.views.machine import show_ready

    found = store.load(name)
    if cold:
        suspend.give_up(found)
        with app.show.events() as on_event:
            ready = machine.start(found, on_event=on_event)
        show_ready(app.show, ready)
        return
    done = suspend.resume(found)
    document = {
        "name": name,
        "state": "running",
        "pid": done.pid,
        "ports": {str(guest): host for guest, host in sorted(done.ports.items())},
        "seconds": round(done.seconds, 3),
        "answered": done.answered,
        "notes": list(done.notes),
    }
    for note in done.notes:
        app.show.warning(note)
    if not done.answered:
        app.show.note("its guest has not answered since: its image has no command channel")
    app.show.result(document, f"{name} goes on after {done.seconds:.1f} s")
