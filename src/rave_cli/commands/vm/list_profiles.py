"""`rave vm list-profiles`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list-profiles")
@json_option
@pass_app
def list_profiles(app: App) -> None:
    """List the profiles, what each base carries of them, and their resources.

    \b
    Example: rave vm list-profiles
    """
    rows, documents = [], []
    for name, profile in app.catalog().profiles.items():
        for base, plan in profile.bases.items():
            safe, full = plan.resources.safe, plan.resources.full
            documents.append({
                "profile": name,
                "base": base,
                "description": profile.description,
                "services": list(plan.services),
                "absent": list(plan.absent),
                "resources": plan.resources.model_dump(by_alias=True),
            })  # fmt: skip
            rows.append((
                name, base, f"{len(plan.services)} of {len(profile.services)}",
                f"{safe.memory_mib} MiB, {safe.cpus} CPUs, {safe.disk_gib} GiB",
                f"{full.memory_mib} MiB, {full.cpus} CPUs, {full.disk_gib} GiB",
                profile.description,
            ))  # fmt: skip
    columns = ("profile", "base", "services", "safe", "full", "purpose")
    app.show.result(documents, *app.show.table(columns, rows))
