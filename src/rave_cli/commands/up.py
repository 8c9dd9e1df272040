"""`rave up` and `rave down`: the whole main job in one command, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.commands.vm import complete_machine
from rave_cli.errors import ExitCode
from rave_cli.options import (
    base_option,
    json_option,
    mode_option,
    pass_app,
    profile_option,
)

if TYPE_CHECKING:
    from rave_cli.flows.up import Arrival
    from rave_cli.options import App
    from rave_cli.profiles.catalog import Mode
    from rave_cli.smoke.model import SmokeRun


@click.command()
@profile_option
@base_option
@mode_option
@click.option("--name", metavar="NAME", help="The machine's name; else the profile's.")
@click.option("--fresh", is_flag=True, help="Replace an existing machine; its disk is lost.")
@click.option("--skip-smoke", is_flag=True, help="Do not run the smoke suite.")
@json_option
@pass_app
def up(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    name: str | None,
    fresh: bool,
    skip_smoke: bool,
) -> int:
    """Build an image, launch it, install its secrets, run the smoke suite, sign the transcript.

    What exists and is unchanged is used again. Exit code 1 if a check failed; the machine stays.

    \b
    Example: rave up --profile demo --base debian
    """
    from rave_cli.commands.smoke import check_machine
    from rave_cli.flows.up import Talk, bring_up
    from rave_cli.machines.spec import check_name

    catalog = app.catalog()
    mode = mode or app.settings.mode
    plan = app.plan(profile, base).in_mode(mode)
    arrival = bring_up(
        catalog,
        plan,
        name=check_name(name or plan.profile),
        flake=app.settings.require_flake(),
        sources=app.settings.sources,
        mode=mode,
        fresh=fresh,
        talk=Talk(app.show.progress, app.show.note, app.show.warning),
    )
    found = None if skip_smoke else check_machine(app, arrival.ready.machine, plan)
    app.show.result(_document(arrival, found), _text(app, arrival, found))
    passed = found is None or found.status in ("SUCCESS", "WARNING")
    return int(ExitCode.OK if passed else ExitCode.CHECK_FAILED)


@click.command()
@click.argument("name", required=False, shell_complete=complete_machine)
@json_option
@pass_app
def down(app: App, name: str | None) -> None:
    """Stop the machine that `rave up` launched; `rave up` brings it back as it was.

    Without NAME it is the machine of the default profile.

    \b
    Example: rave down
    """
    from rave_cli.machines import store
    from rave_cli.machines.lifecycle import stop

    machine = store.load(name or app.settings.text("RAVE_PROFILE"))
    with app.show.progress(f"Stopping {machine.name}") as progress:
        report = stop(machine, on_rung=progress.update)
    document = {"name": machine.name, "rung": report.rung, "seconds": round(report.seconds, 3)}
    text = (
        f"{machine.name} is stopped; rave up brings it back, rave vm delete {machine.name} ends it"
    )
    app.show.result(document, text)


def _document(arrival: Arrival, found: SmokeRun | None) -> dict[str, Any]:
    return {
        "image": arrival.image.document(),
        "machine": arrival.ready.document,
        "secrets": arrival.installed.document(),
        "smoke": found.document() if found else None,
    }


def _text(app: App, arrival: Arrival, found: SmokeRun | None) -> str:
    from rave_cli.commands.smoke import summary
    from rave_cli.commands.vm import ready_lines

    lines = ready_lines(arrival.ready, secrets="installed")
    if found is not None:
        lines = [summary(app, found), "", *lines]
    return "\n".join(lines)
