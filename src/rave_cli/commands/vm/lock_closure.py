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
@json_option
@pass_app
def lock_closure(app: App, *, profile: str | None, check: bool) -> int:
    """Lock the current Debian packages of a profile, in the repository.

    apt chooses and downloads them from the archives that the flake names, at this host's mirror;
    the lock names no mirror. Every change is shown, and which are security updates. Look at the
    difference and commit it.

    \b
    Example: rave vm lock-closure --profile demo
    Example: rave vm lock-closure --profile demo --check
    """
    from rave_cli.flows.image import lock

    plan = app.plan(profile, "debian")
    with app.show.events() as on_event:
        place, changes = lock(plan, app.settings, on_event=on_event, dry_run=check)
    document = {"lock": str(place), "changes": [asdict(change) for change in changes]}
    urgent = sum(change.security for change in changes)
    verb = "would change" if check else "changed"
    head = f"{place}: packages that {verb}: {len(changes)}, security updates among them: {urgent}"
    app.show.result(document, head, *(f"    {change}" for change in changes))
    return int(ExitCode.CHECK_FAILED if check and changes else ExitCode.OK)
