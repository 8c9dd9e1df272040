"""`rave vm wait`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from rave_cli.machines.states import TARGETS
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option(
    "--for", "target", type=click.Choice(TARGETS), default="services", show_default=True,
    help="A stage of the boot that must be reached, or a state.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=300.0, show_default=True,
    metavar="SECONDS", help="How long; then the exit code is 5.",
)  # fmt: skip
@json_option
@pass_app
def wait(app: App, name: str, target: str, timeout: float) -> None:
    """Wait until a machine has reached a stage or is in a state; start nothing.

    Out of time, it says what was seen last, and ends with exit code 5 (`reason`: wait-timeout).

    \b
    Example: rave vm wait demo --for ssh-auth --timeout 60
    Example: rave vm wait demo --for stopped
    """
    from rave_cli.machines import waiting

    began = time.monotonic()
    waiting.wait(name, target, timeout=timeout)
    seconds = round(time.monotonic() - began, 3)
    document = {"name": name, "for": target, "seconds": seconds}
    app.show.result(document, f"{name}: {target} after {seconds:.1f} s")
