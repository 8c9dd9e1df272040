"""`rave pool serve`."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
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
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rave_cli.options import App
    from rave_cli.pool.api.listening import Listen
    from rave_cli.pool.jobs.job import Job
    from rave_cli.profiles.names import Mode


@click.command()
@profile_option
@base_option
@mode_option
@resource_options
@click.option(
    "--agents", type=click.IntRange(0, 64), default=2, show_default=True, metavar="N",
    help="How many jobs may run at a time, as far as there is memory; 0 leaves them to others.",
)  # fmt: skip
@click.option(
    "--idle", type=click.FloatRange(1, 7 * 86400), default=300.0, show_default=True,
    metavar="SECONDS", help="Let no machine stand by that long after a job, until the next one.",
)  # fmt: skip
@click.option(
    "--most-cache", type=click.IntRange(1, 1 << 14), default=20, show_default=True, metavar="GIB",
    help="How much the caches of jobs may take; those used longest ago go first.",
)  # fmt: skip
@click.option(
    "--allow", "allows", multiple=True, metavar="HOST:PORT",
    help="Let jobs that ask for it reach this place over TCP, from here (repeatable); else a job"
    " reaches nothing.",
)  # fmt: skip
@redis_options
@lend_option
@click.option(
    "--metrics", "figures", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write figures for Prometheus there, for its node exporter's textfile collector.",
)  # fmt: skip
@click.option(
    "--listen", metavar="HOST:PORT",
    help="Answer there, too, by TLS, whoever has a token of `rave pool token create`.",
)  # fmt: skip
@click.option(
    "--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="The certificate of --listen, with its chain, in PEM; else one is made.",
)  # fmt: skip
@click.option(
    "--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="The key of --tls-cert.",
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
    idle: float,
    most_cache: int,
    allows: tuple[str, ...],
    url: str | None,
    url_file: Path | None,
    url_secret: str | None,
    lends: tuple[str, ...],
    figures: Path | None,
    listen: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> int:
    """Run the jobs of the pool, each in a new machine, until a signal ends this.

    A machine is started from the template of the profile, which is made if there is none, and is
    deleted with the job; without jobs there is no machine. Each change of a job is a line, with
    --json an object. What runs when this ends waits again, and nothing that was submitted is lost,
    whatever ends this or the Redis server. Programs ask it over a socket that only you can open;
    with --listen others can, too, and so can machines that it was lent to (rave pool guest).

    \b
    Example: rave pool serve --profile demo --base debian
    """
    from rave_cli.flows.machine import NewMachine
    from rave_cli.pool.agents import sizes
    from rave_cli.pool.api.events import JobFeed
    from rave_cli.pool.api.listening import listening
    from rave_cli.pool.guests.doors import answered
    from rave_cli.pool.jobs.work import check_place
    from rave_cli.pool.serving import server as serving
    from rave_cli.pool.serving.metrics import PoolMetrics
    from rave_cli.pool.sources.tending import tended
    from rave_cli.views.pool import job_document, job_line

    for place in allows:
        check_place(place)
    shared = redis_address(url, url_file, url_secret)
    if not agents and shared is None:
        raise click.UsageError("--agents 0 leaves jobs to the agents of other hosts: --redis URL.")
    if lends and shared is None:
        raise click.UsageError("--lend is for jobs of other hosts: --redis URL.")
    mode = mode or app.settings.mode
    plan = app.plan(profile, base, mode)
    wanted = sizes.bounded(
        NewMachine(plan, mode, name="job", memory_mib=memory, cpus=cpus, disk_gib=disk)
    )

    feed, metrics = JobFeed(), PoolMetrics(plan.profile)

    def tell(job: Job) -> None:
        feed.tell(job)
        app.show.record(job_document(job), job_line(job))

    try:
        with app.show.events() as on_event:
            serving.serve(
                wanted,
                app.settings,
                agents=agents,
                idle=idle,
                most_cache=most_cache << 30,
                allows=frozenset(allows),
                lends=frozenset(lends),
                shared=shared,
                metrics=metrics,
                figures=figures,
                beside=_together(
                    listening(feed, metrics, _listen(listen, tls_cert, tls_key)),
                    tended(),
                    answered(),
                ),
                on_event=on_event,
                on_change=tell,
            )
    except signals.Interrupted as ended:
        # That is how it ends.
        return 128 + ended.number
    return 0


@contextmanager
def _together(
    answering: AbstractContextManager[tuple[str, ...]],
    tending: AbstractContextManager[None],
    lending: AbstractContextManager[None],
) -> Iterator[tuple[str, ...]]:
    with answering as endpoints, tending, lending:
        yield endpoints


def _listen(address: str | None, certificate: Path | None, key: Path | None) -> Listen | None:
    from rave_cli.pool.api import certificate as certificates
    from rave_cli.pool.api.listening import Listen

    if (certificate is None) != (key is None) or (address is None and certificate is not None):
        raise click.UsageError("--tls-cert and --tls-key go together, and with --listen.")
    if address is None:
        return None
    host, port = certificates.address(address)
    if certificate is not None and key is not None:
        return Listen(host, port, certificates.given(certificate, key))
    return Listen(host, port, certificates.own(host))
