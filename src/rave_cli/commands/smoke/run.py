"""`rave smoke run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.errors import ExitCode
from rave_cli.options import (
    base_option,
    complete_machine,
    complete_phase,
    json_option,
    mode_option,
    output_option,
    pass_app,
    profile_option,
    secrets_file_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.flows.events import OnEvent
    from rave_cli.machines.spec import Machine, Network
    from rave_cli.options import App
    from rave_cli.profiles.names import Mode
    from rave_cli.smoke.provisioning import Provisions
    from rave_cli.smoke.recovering import Recovers


@click.command()
@profile_option
@base_option
@mode_option
@click.option(
    "--vm", "name", metavar="NAME", shell_complete=complete_machine,
    help="Check this running machine instead of a fresh one.",
)  # fmt: skip
@output_option("Directory of the transcript and the reports.")
@click.option(
    "--phase", "phases", multiple=True, metavar="PHASE", shell_complete=complete_phase,
    help="Ask only this phase (repeatable); the others are recorded as skipped.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="Time for the checks, instead of VALIDATION_TIMEOUT.",
)  # fmt: skip
@secrets_file_option
@click.option(
    "--network", type=click.Choice(["isolated", "nat"]), default="isolated", show_default=True,
    help="Network of a fresh machine; nat lets it reach out, and skips the proof that it cannot.",
)  # fmt: skip
@click.option(
    "--recovery", is_flag=True,
    help="Ask the phase recovery, too: back the machine up, and restore it into a second one.",
)  # fmt: skip
@click.option(
    "--sandbox", is_flag=True,
    help="Let a fresh machine use your pool meanwhile, for the phase sandbox; it must be served.",
)  # fmt: skip
@click.option(
    "--simulate", is_flag=True,
    help="Carry nothing out: record what would be asked, marked as simulated. No evidence.",
)  # fmt: skip
@click.option("--nonce", metavar="TEXT", help="A challenge for the transcript to carry.")
@json_option
@pass_app
@audited
def run(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    name: str | None,
    output: Path,
    phases: tuple[str, ...],
    timeout: float | None,
    file: Path | None,
    network: Network,
    recovery: bool,
    sandbox: bool,
    simulate: bool,
    nonce: str | None,
) -> int:
    """Check a machine and write its signed transcript and reports (JSON, JUnit, TAP, Prometheus).

    Without --vm a fresh machine is made from the image, given its secrets, checked and deleted;
    one that does not become ready leaves an aborted transcript, with the cause in every report.
    Exit code 1 if a check failed or could not be carried out; skipped checks are neither. The phase
    recovery is asked where it is named alone, for it takes a second machine for a while; the phase
    sandbox where the machine may ask your pool: --sandbox, or rave pool guest add.

    With --simulate no machine is started and nothing is asked: each check is recorded as skipped
    and simulated, the transcript is unsigned, and the exit code is 1, so that nothing takes it for
    a run that passed.

    \b
    Example: rave smoke run --profile demo --base debian
    Example: rave smoke run --vm demo --phase security --json
    Example: rave smoke run --vm demo --simulate
    """
    from rave_cli.flows import plan as plans
    from rave_cli.flows import prove
    from rave_cli.machines import store
    from rave_cli.pool.guests.seen import SeenSandboxes
    from rave_cli.views.smoke import summary

    _check_phases(phases)
    if name is not None and (profile or base or mode):
        raise click.UsageError("--vm names a machine; --profile, --base and --mode make a new one.")
    if name is not None and sandbox:
        raise click.UsageError(f"--sandbox is for a fresh machine: rave pool guest add {name}")
    if simulate and (sandbox or recovery):
        raise click.UsageError("--simulate carries nothing out: neither --sandbox nor --recovery.")
    if recovery and phases:
        phases = (*phases, "recovery")
    recovers = _recovers(app) if recovery or "recovery" in phases else None
    provisions = _lent if sandbox else SeenSandboxes.of
    asked = prove.Asked(output, file, phases, timeout, nonce, recovers, provisions)
    with app.show.events() as on_event:
        if name is not None:
            machine = store.load(name)
            spec = machine.spec
            plan = plans.of(
                machine, lambda: app.plan(spec.profile, spec.base, spec.mode), on_event=on_event
            )
            carry_out = prove.simulate if simulate else prove.prove
            found = carry_out(machine, plan, app.settings, on_event=on_event, asked=asked)
        else:
            mode = mode or app.settings.mode
            plan = app.plan(profile, base, mode)
            carry_out_fresh = prove.simulate_fresh if simulate else prove.prove_fresh
            found = carry_out_fresh(
                plan, app.settings, mode=mode, network=network, on_event=on_event, asked=asked
            )
    app.show.result(found.document(), *summary(app.show, found))
    return ExitCode.OK if prove.passed(found) else ExitCode.CHECK_FAILED


def _recovers(app: App) -> Callable[[Machine, OnEvent], Recovers]:
    """Return what makes the steps of the recovery phase of a machine."""
    from rave_cli.flows.recovery import Recovery

    catalog = app.catalog()
    return lambda machine, on_event: Recovery(machine, app.settings, catalog, on_event)


def _lent(machine: Machine) -> Provisions:
    """Let a fresh machine ask the pool, as long as there is one, and return what knows of that."""
    from rave_cli.pool.guests import terms
    from rave_cli.pool.guests.seen import SeenSandboxes

    return SeenSandboxes.of(terms.lend(machine.name).machine)


def _check_phases(phases: tuple[str, ...]) -> None:
    """Refuse a phase that does not exist."""
    from rave_cli.smoke.phases import PHASE_IDS

    for phase in phases:
        if phase not in PHASE_IDS:
            raise click.BadParameter(
                f"there is no phase {phase!r} (known: {', '.join(PHASE_IDS)})",
                param_hint="--phase",
            )
