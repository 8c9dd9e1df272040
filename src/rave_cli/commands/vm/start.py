"""`rave vm start`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    chosen,
    dry_run_option,
    json_option,
    keep_option,
    machines_argument,
    pass_app,
)

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@dry_run_option
@keep_option
@click.option(
    "--fresh-system",
    is_flag=True,
    help="Boot the image anew, with the data that there are: what else was changed is lost.",
)
@json_option
@pass_app
@audited
def start(
    app: App,
    *,
    names: tuple[str, ...],
    every: bool,
    dry_run: bool,
    keep_running: bool,
    fresh_system: bool,
) -> int:
    """Start machines and wait until they are ready; join the wait if one is starting already.

    Several are started one after the other; one that does not become ready does not keep the
    others from it.

    A fresh system keeps what services keep, secrets included; home directories, the journal and
    whatever else lies outside of /data are the image's again. A snapshot from before brings it all
    back.

    \b
    Example: rave vm start demo
    Example: rave vm start --all
    Example: rave vm start demo --fresh-system
    """
    from rave_cli.flows import machine
    from rave_cli.machines import store
    from rave_cli.views.machine import command_lines, note_ready, ready_lines
    from rave_cli.views.several import Outcome, for_each

    def do(name: str) -> Outcome:
        found = store.load(name)
        if dry_run:
            argv = machine.command(found)
            return Outcome({"argv": list(argv)}, command_lines(argv))
        with app.show.events() as on_event:
            ready = machine.start(
                found, on_event=on_event, keep_running=keep_running, fresh_system=fresh_system
            )
        note_ready(app.show, ready)
        return Outcome(ready.document, ready_lines(ready, secrets=ready.secrets))

    wanted = chosen(names, every=every)
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
