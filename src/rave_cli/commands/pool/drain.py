"""`rave pool drain`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option("--end", is_flag=True, help="Let jobs begin again.")
@click.option("--no-wait", is_flag=True, help="Do not wait until no job runs any more.")
@endpoint_option
@json_option
@pass_app
@audited
def drain(app: App, *, end: bool, no_wait: bool, endpoint: str | None) -> None:
    """Let no job begin any more, and wait until those that run have come to their end.

    It stays so, also for whoever serves the pool next, until `rave pool drain --end`. Jobs are
    accepted meanwhile, and wait.

    \b
    Example: rave pool drain
    """
    from rave_cli.pool.access.reach import reach
    from rave_cli.pool.asking.draining import drained

    with reach(endpoint) as pool:
        pool.drain(not end)
        waits = not end and not no_wait
        for left in drained(pool.standing) if waits else ():
            app.show.note(f"{left} of the agents still have a job")
        running = len(pool.standing().running)
    if end:
        line = "jobs begin again"
    elif running:
        line = f"no job begins any more; {running} still run"
    else:
        line = "the pool is drained: no job runs, and none begins"
    app.show.result({"draining": not end, "running": running}, line)
