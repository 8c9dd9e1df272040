"""`rave vm build-image`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import base_option, json_option, mode_option, pass_app, profile_option

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.profiles.names import Mode


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
    from rave_cli.flows.image import build

    mode = mode or app.settings.mode
    plan = app.plan(profile, base, mode)
    with app.show.events() as on_event:
        image = build(
            plan,
            app.settings,
            mode=mode,
            on_event=on_event,
            attr=attr,
            locked=locked,
            repair=repair,
        )
    app.show.result(image.document(), str(image.qcow2))
