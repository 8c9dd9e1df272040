"""`rave smoke`: check a machine, sign what was found, verify it later; a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "run": Lazy("rave_cli.commands.smoke.run:run", "Check a machine and sign what was found."),
        "verify": Lazy(
            "rave_cli.commands.smoke.verify:verify", "Verify a transcript and all its files."
        ),
        "list": Lazy(
            "rave_cli.commands.smoke.list:list_",
            "Every check of a profile, or the runs there have been.",
        ),
    },
)
def smoke() -> None:
    """Check a machine from inside and outside, and prove it with a signed transcript."""
