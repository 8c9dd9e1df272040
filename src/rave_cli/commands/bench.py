"""`rave bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import (
    base_option,
    complete_machine,
    json_option,
    mode_option,
    pass_app,
    profile_option,
)

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.profiles.names import Mode

KINDS = ("boot", "warm", "exec", "secrets", "smoke", "suspend")


@click.command()
@click.argument("kind", type=click.Choice(KINDS), default="boot")
@click.option(
    "--vm", "name", metavar="NAME", shell_complete=complete_machine,
    help="The running machine to measure; boot and warm make new ones.",
)  # fmt: skip
@click.option(
    "-n", "--rounds", type=click.IntRange(min=1), default=5, show_default=True, metavar="N",
    help="How often.",
)  # fmt: skip
@click.option("--explain", is_flag=True, help="Also show which part takes what share of the whole.")
@profile_option
@base_option
@mode_option
@json_option
@pass_app
@audited
def bench(
    app: App,
    kind: str,
    *,
    name: str | None,
    rounds: int,
    explain: bool,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
) -> None:
    """Measure what something costs on this host, in rounds: a boot, a start from a template, a
    command in a guest, secrets, the smoke suite, a machine to disk and back.

    Each part is told as percentiles in seconds, with a plot of the rounds; --json adds the facts
    of the host, which figures are worth nothing without. A busy host measures itself.

    \b
    Example: rave bench boot --profile demo --base debian --rounds 3 --explain
    Example: rave bench exec --vm demo
    """
    from rave_cli import bench as benching
    from rave_cli.bench.measures import BenchSubject
    from rave_cli.machines import store
    from rave_cli.views.bench import figure_lines, share_lines

    subject = BenchSubject(
        machine=store.load(name) if name else None,
        plan=lambda: app.plan(profile, base),
        mode=mode or app.settings.mode,
        settings=app.settings,
    )
    with app.show.events() as on_event:
        found = benching.measure(kind, subject, rounds=rounds, on_event=on_event)
    lines = figure_lines(app.show, found)
    if explain:
        lines += ["", *share_lines(app.show, found)]
    app.show.result(found.document, *lines)
