"""`rave vm build-image` and `rave vm lock-closure`: images and the packages they are made of."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rave_cli.errors import ExitCode
from rave_cli.options import (
    base_option,
    json_option,
    mode_option,
    pass_app,
    profile_option,
)

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.profiles.catalog import Mode


@click.command("build-image")
@profile_option
@base_option
@click.option("--attr", metavar="ATTR", help="Another package of the flake with such an image.")
@mode_option
@click.option("--locked", is_flag=True, help="Fail rather than update the lock of packages.")
@click.option(
    "--repair", is_flag=True, help="Check the image's content; build it again if altered."
)
@json_option
@pass_app
def build_image(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    attr: str | None,
    mode: Mode | None,
    locked: bool,
    repair: bool,
) -> None:
    """Build a profile's image and print its path.

    What is unchanged is not built again. The Debian base is made of exactly the packages of the
    repository's lock; if one has left the package archives, a new lock is made and shown, unless
    --locked is given.

    \b
    Example: rave vm build-image --profile demo --base debian
    """
    from rave_cli.flows.narration import of_build
    from rave_cli.images.build import build_image as build

    mode = mode or app.settings.mode
    plan = app.plan(profile, base).in_mode(mode)
    with app.show.progress(f"Building {attr or plan.attr}") as progress:
        image = build(
            plan,
            flake=app.settings.require_flake(),
            mode=mode,
            attr=attr,
            locked=locked,
            repair=repair,
            sources=app.settings.sources,
            on_event=of_build(progress, app.show.warning),
        )
    app.show.result(image.document(), str(image.qcow2))


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
    from rave_cli.flows.narration import of_build
    from rave_cli.images.build import update_lock

    plan = app.plan(profile, "debian")
    with app.show.progress(f"Locking the packages of {plan.profile}") as progress:
        place, changes = update_lock(
            plan,
            flake=app.settings.require_flake(),
            sources=app.settings.sources,
            dry_run=check,
            on_event=of_build(progress, app.show.warning),
        )
    document = {"lock": str(place), "changes": [asdict(change) for change in changes]}
    urgent = sum(change.security for change in changes)
    verb = "would change" if check else "changed"
    head = f"{place}: {len(changes)} packages {verb}, {urgent} of them security updates"
    app.show.result(document, "\n".join([head, *(f"    {change}" for change in changes)]))
    return int(ExitCode.CHECK_FAILED if check and changes else ExitCode.OK)
