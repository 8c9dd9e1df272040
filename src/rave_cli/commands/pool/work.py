"""`rave pool work`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli import signals
from rave_cli.audited import audited
from rave_cli.joboptions import lend_option, redis_address, redis_options
from rave_cli.options import (
    base_option,
    json_option,
    mode_option,
    pass_app,
    profile_option,
    resource_options,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App
    from rave_cli.profiles.names import Mode


@click.command()
@profile_option
@base_option
@mode_option
@resource_options
@redis_options
@lend_option
@click.option(
    "--jobs", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N",
    help="How many jobs to take.",
)  # fmt: skip
@click.option(
    "--wait", type=click.FloatRange(0, 86400), default=30.0, show_default=True, metavar="SECONDS",
    help="How long to wait for each; none is no fault.",
)  # fmt: skip
@click.option(
    "--grace", type=click.FloatRange(0, 86400), default=30.0, show_default=True, metavar="SECONDS",
    help="How long what runs may go on after a signal, before it waits again for another agent.",
)  # fmt: skip
@json_option
@pass_app
@audited
def work(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    memory: int | None,
    cpus: int | None,
    disk: int | None,
    url: str | None,
    url_file: Path | None,
    url_secret: str | None,
    lends: tuple[str, ...],
    jobs: int,
    wait: float,
    grace: float,
) -> int:
    """Take a job of the pools that share a Redis server, run it in a new machine, and end.

    What a pod of `rave pool export k8s` runs. It owns no job: each belongs to the host that
    submitted it, which sends what the job is given and gets what it leaves. The exit code is 0
    whatever became of the job, and if none came; a signal lets no more begin.

    \b
    Example: RAVE_POOL_REDIS=rediss://redis:6379/0 rave pool work --profile demo --base debian
    """
    from rave_cli.flows.machine import NewMachine
    from rave_cli.pool.serving import worker

    address = redis_address(url, url_file, url_secret)
    if address is None:
        raise click.UsageError("Name the server: --redis-file, --redis-secret or RAVE_POOL_REDIS.")
    mode = mode or app.settings.mode
    plan = app.plan(profile, base, mode)
    wanted = NewMachine(plan, mode, name="job", memory_mib=memory, cpus=cpus, disk_gib=disk)
    try:
        with app.show.events() as on_event:
            took = worker.take_jobs(
                wanted,
                app.settings,
                shared=address,
                lends=frozenset(lends),
                jobs=jobs,
                wait=wait,
                grace=grace,
                on_event=on_event,
            )
    except signals.Interrupted as ended:
        app.show.note("its job waits again, for another agent")
        return 128 + ended.number
    app.show.result({"took": took}, f"{took} jobs taken" if took != 1 else "1 job taken")
    return 0
