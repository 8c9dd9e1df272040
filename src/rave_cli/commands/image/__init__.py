"""`rave image`: what images are made of, a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "push": Lazy("rave_cli.commands.image.push:push", "Push an image to a registry."),
        "pull": Lazy("rave_cli.commands.image.pull:pull", "Pull an image from a registry."),
        "scan": Lazy("rave_cli.commands.image.scan:scan", "Ask for known holes in an image."),
        "sbom": Lazy("rave_cli.commands.image.sbom:sbom", "Print an image's bill of materials."),
    },
)
def image() -> None:
    """What images are made of, and registries."""
