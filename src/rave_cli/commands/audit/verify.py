"""`rave audit verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option(
    "--head", metavar="SHA256",
    help="A head that an earlier call printed: the log must go on from there.",
)  # fmt: skip
@json_option
@pass_app
def verify(app: App, head: str | None) -> None:
    """Verify that no line of the audit log was changed, dropped, added or moved.

    Whoever may write the log can write all of it anew. Note the head elsewhere, where they can't,
    and name it the next time.

    \b
    Example: rave audit verify
    Example: rave audit verify --head "$(cat head-of-yesterday)"
    """
    from rave_cli import audit

    log = audit.read()
    if head is not None:
        audit.require_head(log, head)
    document = {"file": str(audit.log_file()), "lines": len(log.entries), "head": log.head}
    app.show.result(document, f"{len(log.entries)} lines, none changed", f"head {log.head}")
