"""`rave secrets`: the secrets file and its way into a machine, a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "init": Lazy(
            "rave_cli.commands.secrets.init:init",
            "Make the age identity, the policy and the secrets.",
        ),
        "edit": Lazy("rave_cli.commands.secrets.edit:edit", "Change the secrets in your editor."),
        "rotate": Lazy(
            "rave_cli.commands.secrets.rotate:rotate", "Give secrets new values in the file."
        ),
        "validate": Lazy(
            "rave_cli.commands.secrets.validate:validate",
            "Check the file against policy and catalog.",
        ),
        "list": Lazy(
            "rave_cli.commands.secrets.list:list_", "Every secret, and whether the file has it."
        ),
        "install": Lazy(
            "rave_cli.commands.secrets.install:install", "Give a machine the secrets it needs."
        ),
    },
)
def secrets() -> None:
    """Make, check and change the SOPS secrets file, and install it in a machine.

    Values are never shown. Recipients come from the `.sops.yaml` beside the file (or above it).
    """
