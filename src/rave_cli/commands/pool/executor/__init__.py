"""`rave pool executor`: a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "config": Lazy("rave_cli.commands.pool.executor.config:config", "Where builds lie."),
        "prepare": Lazy("rave_cli.commands.pool.executor.prepare:prepare", "Get it its machine."),
        "run": Lazy("rave_cli.commands.pool.executor.run:run", "Run a script of it there."),
        "cleanup": Lazy("rave_cli.commands.pool.executor.cleanup:cleanup", "Delete that."),
    },
)
def executor() -> None:
    """The stages of a build, as GitLab Runner asks its custom executor for them."""
