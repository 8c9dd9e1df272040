"""`rave vm cp`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("source", metavar="SOURCE", shell_complete=complete_machine)
@click.argument("target", metavar="TARGET", shell_complete=complete_machine)
@click.option("--sudo", is_flag=True, help="Read or write it as root of the machine.")
@click.option(
    "--leave-out", is_flag=True,
    help="Leave out what must not come onto this host, instead of refusing all.",
)  # fmt: skip
@json_option
@pass_app
@audited
def cp(app: App, source: str, target: str, *, sudo: bool, leave_out: bool) -> None:
    """Copy a file, a folder or a stream into a machine or out of it.

    One of the two is NAME:PATH, a path in a machine; the other is one of this host, or - for
    standard input or output. A folder comes with all that is in it; into a folder that is there it
    comes under its own name, or with /. at its end without. Nothing is seen under its name before
    it is whole. Modes and times are kept; owners, set-user-ID bits and, out of a machine, the
    right of others to write are not. What could act outside of the target is refused: devices, and
    links that lead out.

    \b
    Example: rave vm cp notes.txt demo:/tmp/
    Example: rave vm cp --sudo demo:/var/log/nginx logs
    Example: rave vm cp demo:/etc/os-release - | sort
    """
    from rave_cli.flows import copy as flow
    from rave_cli.machines.transfer.endpoint import parse_endpoint

    start, end = parse_endpoint(source), parse_endpoint(target)
    if end.is_stream:
        if app.show.as_json:
            raise click.UsageError("--json does not go with - as the target.")
        if sys.stdout.isatty():
            raise click.UsageError("What a machine sends does not go to a terminal; use a pipe.")
    # How far it is concerns people only; warnings are said in any case.
    show = app.show if sys.stderr.isatty() else replace(app.show, quiet=True)
    with show.events() as on_event:
        done = flow.copy(start, end, sudo=sudo, leave_out=leave_out, on_event=on_event)
    if end.is_stream:
        return
    files = "1 file" if done.copied.files == 1 else f"{done.copied.files} files"
    text = f"{files}, {flow.size_of(done.copied.size)}, copied to {done.target}"
    app.show.result(done.document, text)
