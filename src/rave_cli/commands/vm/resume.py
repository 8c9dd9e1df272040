"""`rave vm resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import chosen, json_option, machines_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.views.several import Outcome


@click.command()
@machines_argument
@click.option("--cold", is_flag=True, help="Give the saved memory up and start anew.")
@json_option
@pass_app
@audited
def resume(app: App, names: tuple[str, ...], every: bool, *, cold: bool) -> int:
    """Let suspended machines go on where they were, with their clocks set.

    Only the QEMU, rave, processor and disk that a machine was suspended with can take it up. Where
    one is another and cannot be put back, --cold starts the machine anew, as after a power cut.

    \b
    Example: rave vm resume demo
    Example: rave vm resume --all
    """
    from rave_cli.views.several import for_each

    wanted = chosen(names, every=every)
    do = _cold if cold else _warm
    return for_each(app.show, wanted, lambda name: do(app, name), several=every or len(wanted) > 1)


def _cold(app: App, name: str) -> Outcome:
    from rave_cli.flows import machine
    from rave_cli.machines import store, suspend
    from rave_cli.views.machine import note_ready, ready_lines
    from rave_cli.views.several import Outcome

    found = store.load(name)
    suspend.give_up(found)
    with app.show.events() as on_event:
        ready = machine.start(found, on_event=on_event)
    note_ready(app.show, ready)
    return Outcome(ready.document, ready_lines(ready, secrets=ready.secrets))


def _warm(app: App, name: str) -> Outcome:
    from rave_cli.flows import certificates
    from rave_cli.machines import store, suspend
    from rave_cli.views.several import Outcome

    found = store.load(name)
    done = suspend.resume(found)
    # It may have slept for long.
    if certificates.due(found):
        with app.show.events() as on_event:
            certificates.refresh(store.load(name), on_event=on_event)
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
    return Outcome(document, [f"{name} goes on after {done.seconds:.1f} s"])
