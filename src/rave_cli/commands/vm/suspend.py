"""`rave vm suspend`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@json_option
@pass_app
def suspend(app: App, name: str) -> None:
    """Save a running machine to disk and end its QEMU; `rave vm resume` goes on where it was.

    Its memory then lies beside its disk, with whatever secrets were in it, readable by you alone.

    \b
    Example: rave vm suspend demo
    """
    from rave_cli.machines import store, suspend

    done = suspend.suspend(store.load(name))
    document = {
        "name": name, "state": "suspended", "seconds": round(done.seconds, 3), "MiB": done.mib
    }  # fmt: skip
    text = f"{name} suspended after {done.seconds:.1f} s, {done.mib} MiB"
    app.show.result(document, text, f"go on: rave vm resume {name}")
