"""`rave vm snapshot`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "create": Lazy("rave_cli.commands.vm.snapshot.create:create", "Take a snapshot."),
        "list": Lazy("rave_cli.commands.vm.snapshot.list:list_", "The snapshots of a machine."),
        "restore": Lazy(
            "rave_cli.commands.vm.snapshot.restore:restore", "Put a machine back to a snapshot."
        ),
        "delete": Lazy("rave_cli.commands.vm.snapshot.delete:delete", "Delete a snapshot."),
    },
)
def snapshot() -> None:
    """Keep a machine as it is now, disk and memory, and go back to that."""
