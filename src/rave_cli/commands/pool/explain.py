"""`rave pool explain`."""

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
def explain(app: App, job: str, endpoint: str | None) -> None:
    """Say why a job waits: all that keeps it, and what helps. The first is to be dealt with first.

    \b
    Example: rave pool explain 3f2a
    """
    from dataclasses import asdict

    from rave_cli.pool.access.reach import reach

    with reach(endpoint) as pool:
        found, reasons = pool.explain(job)
    document = {
        "job": found.name,
        "state": found.state,
        "reasons": [asdict(reason) for reason in reasons],
    }
    lines = [f"job {found.name} is {found.state}"]
    for reason in reasons:
        lines.append(f"  {reason.code}: {reason.text}")
        if reason.hint:
            lines.append(f"    try: {reason.hint}")
    app.show.result(document, *lines)
