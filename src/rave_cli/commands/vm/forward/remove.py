"""`rave vm forward remove`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.argument("host", metavar="HOST[:GUEST]")
@json_option
@pass_app
@audited
def remove(app: App, name: str, host: str) -> None:
    """Take away a forward that was added; one that was kept does not come back either. Connections
    that are open stay.

    \b
    Example: rave vm forward remove demo 8443
    """
    from rave_cli.machines import store
    from rave_cli.machines.qemu import forwarding

    port = host.partition(":")[0]
    if not (port.isascii() and port.isdecimal()):
        raise click.BadParameter(f"{host!r} begins with no port number.", param_hint="HOST")
    gone = forwarding.remove(store.load(name), int(port))
    document = forwarding.ListedForward(gone, added=True).document
    app.show.result({**document, "removed": True}, f"{gone.address}:{gone.host} leads nowhere now")
