"""`rave pool retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_job, endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App

MOST = 1000


@click.command()
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=complete_job)
@click.option("--dead", is_flag=True, help=f"All that were given up, at most {MOST} at a time.")
@endpoint_option
@json_option
@pass_app
@audited
def retry(app: App, jobs: tuple[str, ...], *, dead: bool, endpoint: str | None) -> None:
    """Submit again what jobs asked for that are over; print each new job's name.

    A job ends once, so what is tried again is another job. When it was to expire is not taken over.

    \b
    Example: rave pool retry 3f2a
    """
    from rave_cli.pool.access.reach import reach

    if bool(jobs) == dead:
        raise click.UsageError("Give the name of a JOB, or several, or --dead.")
    with reach(endpoint) as pool:
        pairs = pool.retry(None if dead else jobs)
    if not pairs:
        app.show.note("no job was given up")
    document = [{"job": new.name, "again": old.name} for old, new in pairs]
    app.show.result(document, *(f"{new.name} (again {old.name})" for old, new in pairs))
