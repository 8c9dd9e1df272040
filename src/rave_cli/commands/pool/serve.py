"""`rave pool serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli import signals
from rave_cli.audited import audited
from rave_cli.options import (
    base_option,
    json_option,
    mode_option,
    pass_app,
    profile_option,
    resource_options,
)

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.pool.jobs import Job
    from rave_cli.profiles.names import Mode


@click.command()
@profile_option
@base_option
@mode_option
@resource_options
@click.option(
    "--agents", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N",
    help="How many jobs may run at a time, as far as there is memory.",
)  # fmt: skip
@click.option(
    "--redis", "url", envvar="RAVE_POOL_REDIS", metavar="URL",
    help="A Redis server that several hosts share, instead of one of its own. One with a password"
    " goes into the environment, as RAVE_POOL_REDIS.",
)  # fmt: skip
@click.option(
    "--metrics", "figures", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write figures for Prometheus there, for its node exporter's textfile collector.",
)  # fmt: skip
@json_option
@pass_app
@audited
def serve(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    memory: int | None,
    cpus: int | None,
    disk: int | None,
    agents: int,
    url: str | None,
    figures: Path | None,
) -> int:
    """Run the jobs of the pool, each in a new machine, until a signal ends this.

    A machine is started from the template of the profile, which is made if there is none, and is
    deleted with the job; without jobs there is no machine. Each change of a job is a line, with
    --json an object. What runs when this ends waits again, and nothing that was submitted is lost,
    whatever ends this or the Redis server.

    \b
    Example: rave pool serve --profile demo --base debian
    """
    from rave_cli.flows.machine import NewMachine
    from rave_cli.pool import serving
    from rave_cli.views.pool import job_document, job_line

    mode = mode or app.settings.mode
    plan = app.plan(profile, base, mode)
    wanted = NewMachine(plan, mode, name="job", memory_mib=memory, cpus=cpus, disk_gib=disk)

    def tell(job: Job) -> None:
        app.show.record(job_document(job), job_line(job))

    try:
        with app.show.events() as on_event:
            serving.serve(
                wanted,
                app.settings,
                agents=agents,
                url=url,
                figures=figures,
                on_event=on_event,
                on_change=tell,
            )
    except signals.Interrupted as ended:
        # That is how it ends.
        return 128 + ended.number
    return 0
