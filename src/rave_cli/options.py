"""What every command is given: how to talk, and what the user set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rave_cli.profiles.catalog import Catalog, Plan
    from rave_cli.settings import Settings
    from rave_cli.show import Show


@dataclass(frozen=True)
class App:
    """The object Click hands to commands (`@click.pass_obj`)."""

    show: Show
    settings: Settings

    def catalog(self) -> Catalog:
        """Return the catalog of the flake around us, or the one baked into this rave."""
        from rave_cli.profiles.source import load_catalog

        return load_catalog(self.settings.flake)

    def plan(self, profile: str | None, base: str | None) -> Plan:
        """Return the plan for a profile and base, each defaulting to the settings."""
        return self.catalog().plan(
            profile or self.settings.text("RAVE_PROFILE"), base or self.settings.text("RAVE_BASE")
        )


# Hands a command the App.
pass_app = click.make_pass_decorator(App)

# Options that mean the same wherever they stand.
profile_option = click.option(
    "--profile", metavar="PROFILE", help="production, development or demo."
)
base_option = click.option(
    "--base", metavar="BASE", help="What the guest is assembled from: nixos or debian."
)
mode_option = click.option(
    "--mode",
    type=click.Choice(["safe", "full"]),
    help="Resource caps: safe (the default) is memory-disciplined.",
)


def _speak_json(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Let `--json` stand behind the command as well as before it."""
    if wanted:
        app = ctx.find_object(App)
        if app is not None:
            ctx.obj = replace(app, show=replace(app.show, as_json=True))


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_speak_json,
    help="Print one JSON document on stdout.",
)
