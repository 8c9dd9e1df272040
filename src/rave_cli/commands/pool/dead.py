"""`rave pool dead`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_job, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App

MOST = 1000


@click.command()
@click.option(
    "--drop", "dropped", multiple=True, metavar="JOB", shell_complete=complete_job,
    help="Do not list this job any more (repeatable); it stays known.",
)  # fmt: skip
@json_option
@pass_app
@audited
def dead(app: App, *, dropped: tuple[str, ...]) -> None:
    """List the jobs that were given up: what should have run them failed too often.

    One that is submitted again (`rave pool retry`) or dropped is not listed any more.

    \b
    Example: rave pool dead --drop 3f2a
    """
    from rave_cli.pool.jobstore import open_store
    from rave_cli.views.pool import job_document, job_rows

    with open_store() as store:
        if dropped:
            store.drop([store.load(name).name for name in dropped])
        jobs = store.dead(MOST)
    if not jobs:
        app.show.note("no job was given up")
    app.show.result([job_document(job) for job in jobs], *job_rows(app.show, jobs))
