"""`rave pool guest add`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@machine_argument
@click.option(
    "--memory", type=click.Choice(["1024", "2048", "3072", "4096"]), metavar="MIB",
    help="Memory that a job may ask for; without it each has what the pool gives.",
)  # fmt: skip
@click.option(
    "--cpus", type=click.IntRange(1, 2), metavar="N",
    help="Processors that a job may ask for, 1 or 2, likewise.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(1, 3600), default=600.0, show_default=True,
    metavar="SECONDS", help="How long an attempt at a job may take.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 16), default=2, show_default=True, metavar="N",
    help="How many of its jobs may wait and run at a time.",
)  # fmt: skip
@click.option(
    "--per-hour", type=click.IntRange(1, 3600), default=60, show_default=True, metavar="N",
    help="How many it may submit in an hour.",
)  # fmt: skip
@click.option(
    "--most-kept", type=click.IntRange(1, 1 << 20), default=1024, show_default=True,
    metavar="MIB", help="How much may be kept of its jobs: what they are given and print.",
)  # fmt: skip
@json_option
@pass_app
@audited
def add(
    app: App,
    name: str,
    *,
    memory: str | None,
    cpus: int | None,
    timeout: float,
    jobs: int,
    per_hour: int,
    most_kept: int,
) -> None:
    """Let the programs of a machine run jobs in this pool, within these bounds; again changes them.

    It asks over a port of its own, not over the network: for commands in machines that reach
    nothing. It sees its own jobs alone, and neither secrets, caches nor files of this host. It
    holds at once, whether the machine runs or not.

    \b
    Example: rave pool guest add demo
    Example: rave pool guest add demo --jobs 1 --timeout 120
    """
    from rave_cli.pool.guests import terms
    from rave_cli.views.guest import guest_document, guest_told

    found = terms.lend(
        name,
        lambda uuid: terms.GuestTerms(
            uuid,
            memory_mib=int(memory) if memory else None,
            cpus=cpus,
            timeout=timeout,
            jobs=jobs,
            per_hour=per_hour,
            kept_mib=most_kept,
        ),
    )
    app.show.result(guest_document(found, None), guest_told(found))
