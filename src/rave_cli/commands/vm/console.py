"""`rave vm console`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from rave_cli.options import App

# Lines of the log that are shown first.
LINES = 24


@click.command()
@machine_argument
@click.option("--attach", is_flag=True, help="Type into it, too; Ctrl-] three times gets out.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=1), default=LINES, show_default=True, metavar="N",
    help="Begin with the last lines.",
)  # fmt: skip
@click.option("--follow/--no-follow", default=True, help="Go on with what is added.")
@json_option
@pass_app
@audited
def console(app: App, name: str, *, attach: bool, lines: int, follow: bool) -> None:
    """Show the serial console of a machine and follow it until the machine stops.

    What the guest prints is cleaned, so that it cannot act on your terminal. With --attach it is
    passed on byte for byte, and what you type goes to the guest: to a machine that you do not trust
    you do not attach. Its log is kept meanwhile, and others may look on. With --json the last
    lines are shown, and nothing is followed.

    \b
    Example: rave vm console demo
    Example: rave vm console demo --attach
    """
    from rave_cli.machines import logs, store

    if attach and app.show.as_json:
        raise click.UsageError("--attach does not go with --json.")
    machine = store.load(name)
    if attach:
        _attach(app, machine, lines)
        return
    follow = follow and not app.show.as_json
    found = logs.lines(machine, machine.console_log, last=lines, follow=follow)
    if app.show.as_json:
        app.show.result({"name": name, "lines": list(found)})
        return
    for text in found:
        app.show.line(text)
    if follow:
        app.show.note(f"machine {name} is stopped")


def _attach(app: App, machine: Machine, lines: int) -> None:
    from rave_cli import terminal
    from rave_cli.machines import console as attaching
    from rave_cli.machines.logfiles import last_lines

    terminal.needed_for("--attach")
    keys = attaching.open_keys(machine)
    try:
        for text in last_lines(machine.console_log, lines):
            app.show.line(text)
        app.show.note(f"attached to {machine.name}; Ctrl-] three times within a second gets out")
        with terminal.raw() as lent:
            attaching.attach(machine, keys, lent, app.show.raw)
    except terminal.LeftError:
        app.show.note(f"left machine {machine.name}, which goes on")
    else:
        app.show.note(f"machine {machine.name} is stopped")
    finally:
        os.close(keys)
