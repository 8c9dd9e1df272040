"""`rave pool submit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.joboptions import idempotency_option, work_options
from rave_cli.options import endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command(context_settings={"ignore_unknown_options": True})
@work_options
@idempotency_option
@endpoint_option
@json_option
@pass_app
@audited
def submit(app: App, /, endpoint: str | None, key: str, **asked: Any) -> None:  # noqa: ANN401 - what Click read
    """Submit a command as a job and print the job's name.

    It is on the disk when this returns, and waits until somebody serves the pool.

    \b
    Example: rave pool submit --timeout 60 -- sh -c 'uname -a; nproc'
    """
    from rave_cli.joboptions import work_of
    from rave_cli.pool.access.reach import reach
    from rave_cli.views.pool import job_document

    with reach(endpoint) as pool:
        (job,) = pool.submit([work_of(asked)], key)
        there = pool.served()
    if not there:
        app.show.note("nobody serves the pool; the job waits for: rave pool serve")
    app.show.result(job_document(job), job.name)
