"""`rave vm list-profiles`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.profiles.catalog import Catalog


@click.command("list-profiles")
@json_option
@pass_app
def list_profiles(app: App) -> None:
    """List the profiles, what each base carries of them, and their resources.

    \b
    Example: rave vm list-profiles
    """
    rows, documents = [], []
    catalog = app.catalog()
    for name, profile in catalog.profiles.items():
        for base, plan in profile.bases.items():
            safe, full = plan.resources.safe, plan.resources.full
            documents.append({
                "profile": name,
                "base": base,
                "description": profile.description,
                "services": list(plan.services),
                "absent": list(plan.absent),
                "accepted": list(plan.accepted),
                "asksFirst": catalog.asking(plan),
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
    for line in _asking(catalog):
        app.show.note(line)


def _asking(catalog: Catalog) -> list[str]:
    """Say what is off until its operator accepts it, why, and by which command."""
    off: dict[str, tuple[str, list[str]]] = {}
    for name, profile in catalog.profiles.items():
        for plan in profile.bases.values():
            for service, why in catalog.asking(plan).items():
                off.setdefault(service, (why, []))[1].append(f"{name} on {plan.base}")
    return [
        f"{service} is off in {', '.join(places)} until you accept it: {why}"
        f"  (RAVE_ACCEPTED={service} rave …)"
        for service, (why, places) in off.items()
    ]
