"""`rave vm template list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@click.option("--verify", is_flag=True, help="Read each whole and compare it with its digests.")
@json_option
@pass_app
def list_(app: App, verify: bool) -> None:
    """List the templates that machines can be started from, with the disk that each takes.

    \b
    Example: rave vm template list --verify
    """
    from rave_cli.machines.templates import kept
    from rave_cli.views.machine import template_line

    documents = []
    for name in kept.names():
        found = kept.load(name)
        if verify:
            kept.verify(found)
        documents.append(found.document)
    if not documents:
        app.show.note("no templates; make one: rave vm template create")
    app.show.result(documents, *map(template_line, documents))
