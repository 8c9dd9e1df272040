"""`rave vm exec`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("exec", context_settings={"ignore_unknown_options": True})
@machine_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--stdin", "with_input", is_flag=True, help="Pass standard input on.")
@click.option("--sudo", is_flag=True, help="Run it as root.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True,
    metavar="SECONDS", help="Time for the command.",
)  # fmt: skip
@json_option
@pass_app
def exec_(
    app: App, name: str, command: tuple[str, ...], *, with_input: bool, sudo: bool, timeout: float
) -> int:
    """Run one command in a machine and end with its exit status.

    \b
    Example: rave vm exec demo -- sudo systemctl is-active nginx
    """
    from rave_cli.machines import store
    from rave_cli.machines.guest.ssh import connect

    machine = store.load(name)
    data = sys.stdin.buffer.read() if with_input else b""
    with connect(machine) as session:
        done = session.run(command, stdin=data, timeout=timeout, sudo=sudo)
    if app.show.as_json:
        document = {
            "exitStatus": done.returncode,
            "stdout": done.text,
            "stderr": done.error_text,
        }
        app.show.result(document)
    else:
        app.show.raw(done.stdout)
        app.show.raw(done.stderr, error=True)
    return done.returncode
