"""`rave pool artifacts`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import endpoint_option, job_argument, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@job_argument
@click.option(
    "--to", "target", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Copy them into this folder, which is made.",
)  # fmt: skip
@endpoint_option
@json_option
@pass_app
@audited
def artifacts(app: App, *, job: str, target: Path | None, endpoint: str | None) -> None:
    """List what a job that is over has left, or copy it. What was changed since is refused.

    They are removed with the job, 30 days after its end. Programs among them are executable.

    \b
    Example: rave pool artifacts 3f2a --to out
    """
    from dataclasses import asdict

    from rave_cli.pool.access.reach import reach

    with reach(endpoint) as pool:
        found = pool.load(job)
        left = found.facts.artifacts
        if not left:
            app.show.note(f"job {found.name} has left nothing that is kept")
        elif target is not None:
            pool.hand_out(found, target)
            app.show.note(f"copied into {target}")
    rows = [(one.path, str(one.size), one.sha256) for one in left]
    table = app.show.table(("artifact", "bytes", "sha256"), rows) if rows else []
    app.show.result([asdict(one) for one in left], *table)
