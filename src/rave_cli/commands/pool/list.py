"""`rave pool list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import JOB_STATES, endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("list")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(JOB_STATES),
    help="Only jobs in this state (repeatable).",
)  # fmt: skip
@click.option(
    "-n", "--most", type=click.IntRange(min=1), default=50, show_default=True, metavar="N",
    help="How many at most.",
)  # fmt: skip
@endpoint_option
@json_option
@pass_app
def list_(app: App, *, states: tuple[str, ...], most: int, endpoint: str | None) -> None:
    """List jobs, the newest first. A job is kept for 30 days after its end.

    \b
    Example: rave pool list --state waiting --state running
    """
    from rave_cli.pool.access.reach import reach
    from rave_cli.views.pool import job_document, job_rows

    with reach(endpoint) as pool:
        jobs = pool.newest(most, states)
    if not jobs:
        app.show.note("no jobs; submit one: rave pool submit -- COMMAND")
    app.show.result([job_document(job) for job in jobs], *job_rows(app.show, jobs))
