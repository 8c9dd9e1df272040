"""`rave vm forward`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "add": Lazy("rave_cli.commands.vm.forward.add:add", "Let a port lead into a machine."),
        "remove": Lazy("rave_cli.commands.vm.forward.remove:remove", "Take it away again."),
        "list": Lazy("rave_cli.commands.vm.forward.list:list_", "The ports of a machine."),
    },
)
def forward() -> None:
    """Ports of this host that lead into a running machine."""
