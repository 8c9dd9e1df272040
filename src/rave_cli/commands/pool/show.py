"""`rave pool show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import job_argument, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@job_argument
@json_option
@pass_app
def show(app: App, job: str) -> None:
    """Show all that is known of a job. The beginning of its name will do.

    \b
    Example: rave pool show 3f2a
    """
    from rave_cli.pool.jobstore import open_store
    from rave_cli.views.pool import job_document, job_lines

    with open_store() as store:
        found = store.load(job)
    app.show.result(job_document(found), *job_lines(found))
