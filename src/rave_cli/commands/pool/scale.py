"""`rave pool scale`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import endpoint_option, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("agents", type=click.IntRange(0, 64), required=False)
@click.option(
    "--standby", type=click.IntRange(0, 64), metavar="N",
    help="Keep N machines that stand still until a job comes; alone it changes nothing else.",
)  # fmt: skip
@endpoint_option
@json_option
@pass_app
@audited
def scale(app: App, agents: int | None, standby: int | None, endpoint: str | None) -> None:
    """Let AGENTS jobs run at a time, as far as there is memory; without it, as many as `rave pool
    serve` is told.

    It holds from now on, also for whoever serves the pool next. Jobs that run already come to their
    end. 0 lets none begin.

    \b
    Example: rave pool scale 4
    """
    from rave_cli.pool.access.reach import reach

    with reach(endpoint) as pool:
        if standby is not None:
            found = pool.stand_by(standby)
        if standby is None or agents is not None:
            found = pool.scale(agents)
    if found.draining:
        app.show.note("the pool is drained; jobs begin after: rave pool drain --end")
    many = "as many as `rave pool serve` is told" if found.agents is None else str(found.agents)
    line = f"jobs at a time: {many}" + (f"; {found.standby} stand by" if found.standby else "")
    app.show.result({"agents": found.agents, "standby": found.standby}, line)
