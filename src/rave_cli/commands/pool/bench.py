"""`rave pool bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.options import App
    from rave_cli.pool.trial.crashes import CrashResult
    from rave_cli.pool.trial.pool import PoolTrial


@click.command()
@click.option("--crash", is_flag=True, help="Kill whoever can be killed at every step.")
@click.option(
    "--runs", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N",
    help="How often each point of --crash is gone through.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 100_000), default=1000, show_default=True, metavar="N",
    help="With how many jobs each step is measured.",
)  # fmt: skip
@json_option
@pass_app
@audited
def bench(app: App, *, crash: bool, runs: int, jobs: int) -> int:
    """Measure the pool on this host, or go through its crash matrix.

    On a store and a redis-server of its own, of which nothing is left; jobs are processes of this
    host instead of machines. Your pool and its jobs have no part in it. With --crash the exit code
    is 1 if a job was lost or ended twice.

    \b
    Example: rave pool bench --crash --runs 20
    """
    from dataclasses import asdict

    from rave_cli.errors import ExitCode
    from rave_cli.pool.trial.pool import on_trial
    from rave_cli.pool.trial.rates import rates
    from rave_cli.transcript import signing_key

    with on_trial(signing_key()) as trial:
        if not crash:
            measured = list(rates(trial, jobs))
            lines = [(one.what, str(one.jobs), f"{one.rate:.0f}") for one in measured]
            table = app.show.table(("what", "jobs", "a second"), lines)
            app.show.result(
                [asdict(one) | {"rate": round(one.rate, 1)} for one in measured], *table
            )
            return 0
        results = list(_told(app, trial, runs))
    columns = ("what", "times", "jobs", "ended well", "lost", "twice", "again")
    rows = [
        (
            one.point, str(one.kills), str(one.jobs), str(one.ended), str(one.lost),
            str(one.twice), str(one.again),
        )
        for one in results
    ]  # fmt: skip
    app.show.result([asdict(one) for one in results], *app.show.table(columns, rows))
    return 0 if all(one.good for one in results) else ExitCode.CHECK_FAILED


def _told(app: App, trial: PoolTrial, runs: int) -> Iterator[CrashResult]:
    from rave_cli.pool.trial.crashes import matrix

    for result in matrix(trial, runs):
        app.show.note(f"{result.point}: {result.seconds:.1f} s")
        yield result
