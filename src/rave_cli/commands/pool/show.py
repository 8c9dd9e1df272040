"""`rave pool show`."""

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
def show(app: App, job: str, endpoint: str | None) -> None:
    """Show all that is known of a job. The beginning of its name will do.

    \b
    Example: rave pool show 3f2a
    """
    from rave_cli.pool.access.reach import reach
    from rave_cli.registry.places import pushed_to
    from rave_cli.views.pool import job_document, job_lines

    with reach(endpoint) as pool:
        found = pool.load(job)
    places = pushed_to("job", found.name)
    lines = [f"  {'pushed':<12} {place}" for place in places]
    app.show.result(job_document(found) | {"pushed": places}, *job_lines(found), *lines)
