"""`rave flow`: what the platform is for, carried out in a running machine; a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "hello-world": Lazy(
            "rave_cli.commands.flow.hello_world:hello_world", "From a sentence to a merge."
        ),
    },
)
def flow() -> None:
    """What the platform is for, carried out in a running machine, and told step by step."""
