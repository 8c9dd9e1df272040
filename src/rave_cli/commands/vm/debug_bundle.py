"""`rave vm debug-bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("debug-bundle")
@machine_argument
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="The archive; else one named after machine and time in the working directory.",
)  # fmt: skip
@json_option
@pass_app
def debug_bundle(app: App, name: str, output: Path | None) -> None:
    """Collect what is known of a machine into an archive that can be attached to a report.

    That is: its record, status and logs, QEMU's command line, what its guest answers, the host, and
    what `rave doctor` finds. A machine that is dead or damaged is told of as far as it goes. Disk
    and keys stay here, and known secrets are replaced in everything; look through it all the same.

    \b
    Example: rave vm debug-bundle demo
    """
    from rave_cli.flows import bundle

    with app.show.events() as on_event:
        made = bundle.make(name, output, on_event=on_event)
    for part in made.missing:
        app.show.note(f"could not be had: {part}")
    size = f"{made.size / 1024:.0f} KiB, {len(made.parts)} parts, {made.redacted} places redacted"
    app.show.result(made.document, f"{made.place}  ({size})")
