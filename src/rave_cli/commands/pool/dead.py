"""`rave pool dead`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_job, endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option(
    "--drop", "dropped", multiple=True, metavar="JOB", shell_complete=complete_job,
    help="Do not list this job any more (repeatable); it stays known.",
)  # fmt: skip
@endpoint_option
@json_option
@pass_app
@audited
def dead(app: App, *, dropped: tuple[str, ...], endpoint: str | None) -> None:
    """List the jobs that were given up: what should have run them failed too often.

    One that is submitted again (`rave pool retry`) or dropped is not listed any more.

    \b
    Example: rave pool dead --drop 3f2a
    """
    from rave_cli.pool.access.reach import reach
    from rave_cli.views.pool import job_document, job_rows

    with reach(endpoint) as pool:
        if dropped:
            pool.drop(dropped)
        jobs = pool.dead()
    if not jobs:
        app.show.note("no job was given up")
    app.show.result([job_document(job) for job in jobs], *job_rows(app.show, jobs))
