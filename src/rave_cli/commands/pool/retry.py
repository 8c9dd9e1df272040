"""`rave pool retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import complete_job, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App

MOST = 1000


@click.command()
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=complete_job)
@click.option("--dead", is_flag=True, help=f"All that were given up, at most {MOST} at a time.")
@json_option
@pass_app
@audited
def retry(app: App, jobs: tuple[str, ...], *, dead: bool) -> None:
    """Submit again what jobs asked for that are over; print each new job's name.

    A job ends once, so what is tried again is another job. When it was to expire is not taken over.

    \b
    Example: rave pool retry 3f2a
    """
    from rave_cli.errors import ExitCode, RaveError
    from rave_cli.pool.jobstore import open_store

    if bool(jobs) == dead:
        raise click.UsageError("Give the name of a JOB, or several, or --dead.")
    with open_store() as store:
        asked = [store.load(job) for job in jobs] if jobs else store.dead(MOST)
        # Each once, whatever beginnings of its name were given.
        found = list({job.name: job for job in asked}.values())
        for job in found:
            if not job.over:
                raise RaveError(
                    f"job {job.name} is not over: it is {job.state}",
                    hint=f"rave pool explain {job.name}",
                    exit_code=ExitCode.USAGE,
                )
        taken = store.retry(found)
    pairs = list(zip(found, taken, strict=True))
    if not pairs:
        app.show.note("no job was given up")
    document = [{"job": new.name, "again": old.name} for old, new in pairs]
    app.show.result(document, *(f"{new.name} (again {old.name})" for old, new in pairs))
