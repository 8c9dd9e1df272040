"""`rave vm forward list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.machines.qemu.forwarding import ListedForward
    from rave_cli.options import App


@click.command("list")
@machine_argument
@json_option
@pass_app
def list_(app: App, name: str) -> None:
    """Show which ports of this host lead into a running machine, and which were added.

    \b
    Example: rave vm forward list demo
    """
    from rave_cli.machines import store
    from rave_cli.machines.qemu import forwarding

    found = forwarding.listed(store.load(name))
    rows = [
        (
            f"{entry.forward.address}:{entry.forward.host}",
            str(entry.forward.guest),
            _whose(entry),
        )
        for entry in found
    ]
    documents = [entry.document for entry in found]
    app.show.result(documents, *app.show.table(("host", "guest", ""), rows))


def _whose(entry: ListedForward) -> str:
    if not entry.added:
        return "the machine's own"
    return "kept" if entry.kept else "added"
