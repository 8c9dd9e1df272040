"""`rave pool cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import endpoint_option, job_argument, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@job_argument
@endpoint_option
@json_option
@pass_app
@audited
def cancel(app: App, job: str, endpoint: str | None) -> None:
    """Cancel a job: it is not begun, or its machine is ended. One that is over stays as it is.

    \b
    Example: rave pool cancel 3f2a
    """
    from rave_cli.pool.access.reach import reach
    from rave_cli.views.pool import job_document

    with reach(endpoint) as pool:
        found = pool.cancel(job)
        there = pool.served()
    if found.over:
        line = f"job {found.name} was over: {found.state}"
    else:
        line = f"job {found.name} is to be cancelled"
        if not there:
            app.show.note("nobody serves the pool; it is cancelled once somebody does")
    app.show.result(job_document(found), line)
