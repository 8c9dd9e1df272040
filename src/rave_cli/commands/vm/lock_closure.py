"""`rave vm lock-closure`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app, profile_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("lock-closure")
@profile_option
@json_option
@pass_app
def lock_closure(app: App, profile: str | None) -> None:
    """Lock the current Debian packages of a profile, in the repository.

    The host's apt chooses and downloads them with its own sources and keys; the lock names no
    source. Look at the difference and commit it.

    \b
    Example: rave vm lock-closure --profile demo
    """
    from rave_cli.flows.image import lock

    plan = app.plan(profile, "debian")
    with app.show.events() as on_event:
        place, changes = lock(plan, app.settings, on_event=on_event)
    document = {
        "lock": str(place),
        "changed": list(changes.changed),
        "added": list(changes.added),
        "removed": list(changes.removed),
    }
    app.show.result(document, f"{place}: {len(changes)} packages changed")
