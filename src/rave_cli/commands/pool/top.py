"""`rave pool top`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@endpoint_option
@json_option
@pass_app
def top(app: App, endpoint: str | None) -> int:
    """Watch a pool: its jobs, agents, queue, dead letters and events, each on a tab.

    Keys act on the job that is selected: e explains why it waits, l shows what it prints, c cancels
    it and r submits it again, which is asked for first; ? names all. What is not a terminal gets
    one view, printed once.

    \b
    Example: rave pool top
    """
    from rave_cli.dashboard.picture import look
    from rave_cli.pool.access.reach import reach
    from rave_cli.terminal import draws
    from rave_cli.views.pool import job_document, job_rows, status_document, status_lines

    # What cannot be reached at all is said before anything is drawn.
    with reach(endpoint) as pool:
        drawn = draws() and not app.show.as_json
        if not drawn:
            picture = look(pool)
    if drawn:
        from rave_cli.dashboard.app import run

        return run(endpoint)
    status = status_document(picture.standing)
    document = {
        "pool": status,
        "jobs": [job_document(job) for job in picture.jobs],
        "dead": [job_document(job) for job in picture.dead],
    }
    jobs = job_rows(app.show, list(picture.jobs))
    dead = job_rows(app.show, list(picture.dead))
    lines = [*status_lines(status), *(["", "jobs"] if jobs else []), *jobs]
    app.show.result(document, *lines, *(["", "dead letters"] if dead else []), *dead)
    return 0
