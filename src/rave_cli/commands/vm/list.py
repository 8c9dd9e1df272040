"""`rave vm list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from rave_cli.machines.store import Unreadable
    from rave_cli.options import App


@click.command("list")
@json_option
@pass_app
def list_(app: App) -> None:
    """List all machines.

    \b
    Example: rave vm list
    """
    from rave_cli.machines import store
    from rave_cli.views.machine import plain

    documents = [_summary(entry) for entry in store.list_machines()]
    keys = ("name", "state", "profile", "base", "mode", "memoryMiB", "ports", "detail")
    rows = [tuple(plain(document.get(key)) for key in keys) for document in documents]
    if not rows:
        app.show.note("no machines; make one: rave vm launch-local --profile demo")
    app.show.result(documents, *(app.show.table(keys, rows) if rows else []))


def _summary(entry: Machine | Unreadable) -> dict[str, Any]:
    """Return the document of one machine; one whose record cannot be read is not hidden."""
    from rave_cli.machines import status as present
    from rave_cli.machines.spec import Machine

    if isinstance(entry, Machine):
        return present.of(entry).document
    return {"name": entry.name, "state": entry.state, "detail": entry.error.message}
