"""`rave vm open`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("open")
@machine_argument
@click.argument("service", required=False, metavar="[SERVICE]")
@click.option("--browser", is_flag=True, help="Open them in your browser, too.")
@json_option
@pass_app
def open_(app: App, name: str, service: str | None, *, browser: bool) -> None:
    """Print the web pages of a running machine that this host reaches.

    A browser asks about their certificate unless it trusts its authority: see rave tls trust.

    \b
    Example: rave vm open demo
    Example: rave vm open demo nginx --browser
    """
    from rave_cli.flows import pages, plan
    from rave_cli.machines import store
    from rave_cli.machines.qemu import ports

    machine = store.load(name)
    spec = machine.spec
    with app.show.events() as on_event:
        today = plan.of(
            machine, lambda: app.plan(spec.profile, spec.base, spec.mode), on_event=on_event
        )
    found = pages.chosen(pages.of(today, ports.of(machine), spec.public_origin), service)
    rows = [(page.service, page.url, page.title) for page in found]
    if not rows:
        app.show.note(f"no page of machine {name} is exposed to this host")
    app.show.result(
        [page.document for page in found],
        *(app.show.table(("service", "page", "what"), rows) if rows else []),
    )
    if nowhere := pages.astray(found):
        app.show.warning(f"these names have no address here: {', '.join(nowhere)}")
        app.show.note(
            f"let *.{spec.public_host} and {spec.public_host} lead to this host: in your DNS, or,"
            " for this computer alone, in /etc/hosts"
        )
    if browser:
        for page in found:
            pages.show(page, os.environ)
