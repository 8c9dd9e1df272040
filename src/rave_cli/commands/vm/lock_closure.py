"""`rave vm lock-closure`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rave_cli.errors import ExitCode
from rave_cli.options import json_option, pass_app, profile_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("lock-closure")
@profile_option
@click.option("--check", is_flag=True, help="Only tell; exit with 1 if something would change.")
@click.option("--update", is_flag=True, help="Choose Python wheels and npm tarballs anew, too.")
@json_option
@pass_app
def lock_closure(app: App, *, profile: str | None, check: bool, update: bool) -> int:
    """Lock the current packages of a profile, in the repository.

    apt chooses and downloads Debian's from the archives that the flake names, at this host's
    mirror. Wheels and tarballs of services are chosen by pip and npm, from where this host has them
    from: those that are locked stay while they are what the service asks for, unless --update is
    given. The lock names no mirror, index or registry. Every change is shown with what is known of
    its reason, security updates first. Look at the difference and commit it.

    \b
    Example: rave vm lock-closure --profile demo
    Example: rave vm lock-closure --profile demo --check
    Example: rave vm lock-closure --profile development --update
    """
    from rave_cli.flows.image import lock

    plan = app.plan(profile, "debian")
    with app.show.events() as on_event:
        place, changes = lock(plan, app.settings, on_event=on_event, dry_run=check, renew=update)
    document = {"lock": str(place), "changes": [asdict(change) for change in changes]}
    urgent = sum(change.security for change in changes)
    verb = "would change" if check else "changed"
    head = f"{place}: packages that {verb}: {len(changes)}, security updates among them: {urgent}"
    app.show.result(document, head, *(f"    {change}" for change in changes))
    return int(ExitCode.CHECK_FAILED if check and changes else ExitCode.OK)
