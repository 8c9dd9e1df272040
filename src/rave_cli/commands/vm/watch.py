"""`rave vm watch`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rave_cli import signals
from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.machines.watching import MachineChange
    from rave_cli.options import App


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_machine)
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="How long; else for ever."
)
@json_option
@pass_app
def watch(app: App, names: tuple[str, ...], timeout: float | None) -> int:
    """Show what machines do, and go on with each change of a state and each stage of a boot.

    With --json that is one JSON object a line. It ends with Ctrl-C, or when nobody reads on.
    Without a name it is all machines, those included that are made meanwhile.

    \b
    Example: rave vm watch demo --json
    """
    from rave_cli.machines import watching

    try:
        for change in watching.watch(names, until=sys.stdout.fileno(), seconds=timeout):
            app.show.record(asdict(change), _line(change))
    except signals.Interrupted as ended:
        # That is how it ends; a document about it would be no change of a machine.
        return 128 + ended.number
    return 0


def _line(change: MachineChange) -> str:
    said = change.state if change.what == "state" else f"{change.state}: {change.stage}"
    return f"{change.time} {change.machine} {said}" + (
        f" ({change.detail})" if change.detail else ""
    )
