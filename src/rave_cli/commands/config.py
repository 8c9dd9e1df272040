"""`rave config`: every setting, its value and where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@json_option
@pass_app
def config(app: App) -> None:
    """Show every setting and where it comes from.

    The environment wins over `.env` files (working directory, repository, $XDG_CONFIG_HOME/rave),
    those over the configuration file, that over the default.

    \b
    Example: SAFE_MODE=0 rave config
    """
    from rave_cli import paths

    settings = list(app.settings.values.values())
    places = {
        "flake": app.settings.flake,
        "config": paths.config_dir(),
        "machines": paths.data_dir() / "vms",
        "state": paths.state_dir(),
        "cache": paths.cache_dir(),
        "runtime": paths.runtime_dir(),
    }
    document = {
        "settings": {s.name: {"value": s.value, "origin": s.origin} for s in settings},
        "paths": {name: str(place) if place else None for name, place in places.items()},
    }
    rows = [(s.name, s.value, s.origin) for s in settings]
    rows += [(name, str(place or "none"), "path") for name, place in places.items()]
    app.show.result(document, *app.show.table(("setting", "value", "origin"), rows))
