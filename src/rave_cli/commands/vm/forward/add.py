"""`rave vm forward add`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.argument("ports", metavar="HOST:GUEST")
@click.option(
    "--address", default="127.0.0.1", show_default=True, metavar="IPV4",
    help="Listen on this address of the host; 0.0.0.0 lets others in.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Add it again whenever the machine starts.")
@json_option
@pass_app
@audited
def add(app: App, name: str, ports: str, *, address: str, keep: bool) -> None:
    """Let a port of this host lead into a running machine until it stops.

    Host port 0 takes any free one, which is printed. The guest port must be one that the guest's
    firewall admits; `rave vm ssh NAME -- -L ...` reaches the others.

    \b
    Example: rave vm forward add demo 8443:3002
    Example: rave vm forward add --keep demo 8443:3002
    """
    from ipaddress import AddressValueError, IPv4Address

    from rave_cli.machines import store
    from rave_cli.machines.qemu import forwarding
    from rave_cli.machines.spec import parse_forward

    try:
        listening = IPv4Address(address)
    except AddressValueError as error:
        raise click.BadParameter(str(error), param_hint="--address") from error
    wanted = parse_forward(ports, option="")
    made = forwarding.add(store.load(name), wanted, address=str(listening), keep=keep)
    if not listening.is_loopback:
        app.show.warning(f"whoever reaches {address} of this host reaches machine {name} now")
    document = forwarding.ListedForward(made, added=True, kept=keep).document
    text = f"{made.address}:{made.host} leads to port {made.guest} of {name}"
    app.show.result(document, f"{text}, and will after each start" if keep else text)
