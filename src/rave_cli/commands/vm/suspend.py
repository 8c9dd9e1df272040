"""`rave vm suspend`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import chosen, json_option, machines_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machines_argument
@json_option
@pass_app
@audited
def suspend(app: App, names: tuple[str, ...], every: bool) -> int:
    """Save running machines to disk and end their QEMU; `rave vm resume` goes on where they were.

    The memory of each then lies beside its disk, with whatever secrets were in it, readable by you
    alone.

    \b
    Example: rave vm suspend demo
    Example: rave vm suspend --all
    """
    from rave_cli.machines import store, suspend
    from rave_cli.views.several import Outcome, for_each

    def do(name: str) -> Outcome:
        done = suspend.suspend(store.load(name))
        document = {
            "name": name, "state": "suspended", "seconds": round(done.seconds, 3), "MiB": done.mib
        }  # fmt: skip
        text = f"{name} suspended after {done.seconds:.1f} s, {done.mib} MiB"
        return Outcome(document, [text, f"go on: rave vm resume {name}"])

    wanted = chosen(names, every=every)
    return for_each(app.show, wanted, do, several=every or len(wanted) > 1)
