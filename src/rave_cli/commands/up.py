"""`rave up`: the whole main job in one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.errors import ExitCode
from rave_cli.options import (
    base_option,
    json_option,
    keep_option,
    mode_option,
    origin_option,
    pass_app,
    port_option,
    profile_option,
)

if TYPE_CHECKING:
    from rave_cli.flows.up import UpReport
    from rave_cli.options import App
    from rave_cli.profiles.names import Mode
    from rave_cli.show import Line


@click.command()
@profile_option
@base_option
@mode_option
@click.option("--name", metavar="NAME", help="The machine's name; else the profile's.")
@port_option
@origin_option
@click.option("--fresh", is_flag=True, help="Replace an existing machine; its disk is lost.")
@click.option("--skip-smoke", is_flag=True, help="Do not run the smoke suite.")
@click.option("--cold", is_flag=True, help="Boot a new machine even where a template fits.")
@keep_option
@json_option
@pass_app
@audited
def up(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    name: str | None,
    ports: tuple[str, ...],
    origin: str | None,
    fresh: bool,
    skip_smoke: bool,
    cold: bool,
    keep_running: bool,
) -> int:
    """Build an image, launch it, install its secrets, run the smoke suite, sign the transcript.

    Where people can sign in and there is no account yet, one is made for you, and its password,
    which is used once, shown: on a terminal alone.

    What exists and is unchanged is used again; a new machine starts from a template where one fits
    (`rave vm template create`), which the transcript then says. Exit code 1 if a check failed; the
    machine stays.

    \b
    Example: rave up --profile demo --base debian
    """
    from rave_cli.flows.machine import NewMachine
    from rave_cli.flows.up import up as bring_up
    from rave_cli.views.account import shows_password

    mode = mode or app.settings.mode
    catalog, plan = app.catalog(), app.plan(profile, base, mode)
    wanted = NewMachine(plan, mode, name=name or plan.profile, ports=ports, origin=origin)
    with app.show.events() as on_event:
        report = bring_up(
            wanted,
            catalog,
            app.settings,
            fresh=fresh,
            check=not skip_smoke,
            cold=cold,
            on_event=on_event,
            keep_running=keep_running,
            first_user=shows_password(app.show, asked=False),
        )
    app.show.result(report.document(), *_lines(app, report))
    return int(ExitCode.OK if report.passed else ExitCode.CHECK_FAILED)


def _lines(app: App, report: UpReport) -> list[Line]:
    from rave_cli.views.account import password_lines
    from rave_cli.views.machine import ready_lines
    from rave_cli.views.smoke import summary

    lines: list[Line] = [*ready_lines(report.ready, secrets="installed")]
    if report.first is not None and report.first.user is not None:
        pages = f"rave vm open {report.ready.machine.name}"
        lines += [f"  account      {report.first.user.id}   ({pages} shows where to sign in)"]
        lines += [f"  {line}" for line in password_lines(report.first)]
    return [*summary(app.show, report.run), "", *lines] if report.run else lines
