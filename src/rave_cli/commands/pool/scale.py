"""`rave pool scale`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("agents", type=click.IntRange(0, 64), required=False)
@json_option
@pass_app
@audited
def scale(app: App, agents: int | None) -> None:
    """Let AGENTS jobs run at a time, as far as there is memory; without it, as many as `rave pool
    serve` is told.

    It holds from now on, also for whoever serves the pool next. Jobs that run already come to their
    end. 0 lets none begin.

    \b
    Example: rave pool scale 4
    """
    from dataclasses import replace

    from rave_cli.pool.jobstore import open_store

    with open_store() as store:
        store.set_scale(replace(store.scale, agents=agents))
        draining = store.scale.draining
    if draining:
        app.show.note("the pool is drained; jobs begin after: rave pool drain --end")
    many = "as many as `rave pool serve` is told" if agents is None else str(agents)
    app.show.result({"agents": agents}, f"jobs at a time: {many}")
