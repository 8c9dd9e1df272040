"""`rave pool trace`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import endpoint_option, job_argument, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@job_argument
@endpoint_option
@json_option
@pass_app
def trace(app: App, job: str, endpoint: str | None) -> None:
    """Show where the time of a job went, as a tree: from its submission over the queue and each
    attempt, with the start of its machine, to its recorded end.

    Its ids are those of a trace of OpenTelemetry; what began it is what `--traceparent` of
    `rave pool submit` said.

    \b
    Example: rave pool trace 3f2a
    """
    from rave_cli.pool.access.reach import reach
    from rave_cli.views.trace import trace_document, trace_lines

    with reach(endpoint) as pool:
        found = pool.trace(job)
    app.show.result(trace_document(found), *trace_lines(found))
