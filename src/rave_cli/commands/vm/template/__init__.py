"""`rave vm template`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "create": Lazy("rave_cli.commands.vm.template.create:create", "Make a template."),
        "list": Lazy("rave_cli.commands.vm.template.list:list_", "The templates that there are."),
        "delete": Lazy("rave_cli.commands.vm.template.delete:delete", "Delete a template."),
    },
)
def template() -> None:
    """Make, list and delete booted machines that others are started from."""
