"""`rave pool source`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "add": Lazy("rave_cli.commands.pool.source.add:add", "Build what a forge pushes."),
        "list": Lazy("rave_cli.commands.pool.source.list:list_", "The sources that there are."),
        "show": Lazy("rave_cli.commands.pool.source.show:show", "All that is known of a source."),
        "remove": Lazy("rave_cli.commands.pool.source.remove:remove", "Forget a source."),
        "test": Lazy("rave_cli.commands.pool.source.test:test", "Whether a source can work."),
        "reconcile": Lazy(
            "rave_cli.commands.pool.source.reconcile:reconcile", "Ask a forge what it has, now."
        ),
    },
)
def source() -> None:
    """Repositories of forges whose pushes, merge requests and tags become jobs, each once."""
