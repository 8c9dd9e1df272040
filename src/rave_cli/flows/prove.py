"""Prove a machine: every check is carried out, and what was found is signed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.flows import image as images
from rave_cli.flows import machine as machines
from rave_cli.flows import plan as plans
from rave_cli.flows import secure
from rave_cli.flows.events import Event, step
from rave_cli.machines import lifecycle, store
from rave_cli.secrets.store import place
from rave_cli.smoke import runner, simulated
from rave_cli.smoke.operator import open_operator
from rave_cli.smoke.request import SmokeRequest
from rave_cli.transcript import signing_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.flows.events import Kind, OnEvent, Step
    from rave_cli.machines.guest.readiness import NotReadyError
    from rave_cli.machines.guest.session import Session
    from rave_cli.machines.spec import Machine, Network
    from rave_cli.profiles.catalog import Plan
    from rave_cli.profiles.names import Mode
    from rave_cli.settings import Settings
    from rave_cli.smoke.model import SmokeRun
    from rave_cli.smoke.provisioning import Provisions
    from rave_cli.smoke.recovering import Recovers

OUTPUT = Path("artifacts")


@dataclass(frozen=True)
class Asked:
    """What is asked of a smoke run.

    Attributes:
        output: directory of the transcript and the reports.
        file: the secrets file; None takes the operator's own, if there is one.
        phases: ids of the phases to ask; empty asks all.
        timeout: seconds for the checks; None takes VALIDATION_TIMEOUT.
        nonce: a challenge for the transcript to carry.
        recovery: makes what carries out the recovery phase, where that is named.
        provisions: makes what knows of the sandboxes that the machine gets of the pool.
    """

    output: Path = OUTPUT
    file: Path | None = None
    phases: tuple[str, ...] = ()
    timeout: float | None = None
    nonce: str | None = None
    recovery: Callable[[Machine, OnEvent], Recovers] | None = None
    provisions: Callable[[Machine], Provisions] | None = None


EVERYTHING = Asked()


def prove(
    machine: Machine,
    plan: Plan,
    settings: Settings,
    *,
    on_event: OnEvent,
    asked: Asked = EVERYTHING,
    session: Session | None = None,
) -> SmokeRun:
    """Check a running machine; write its reports and its signed transcript.

    Args:
        machine: the machine.
        plan: what its base makes of its profile.
        settings: where the flake and the signing key are.
        on_event: told what happens.
        asked: what is asked.
        session: an open connection to the machine, which stays open; None opens one.

    Raises:
        RaveError: as the smoke runner does; the run's own verdict is in what is returned.
    """
    request = _request(machine, plan, settings, asked, session)
    if asked.recovery is not None:
        request = replace(request, recovery=asked.recovery(machine, _within(on_event)))
    if asked.provisions is not None:
        request = replace(request, provisions=asked.provisions(machine))
    with step(on_event, "check", f"Checking {machine.name}") as doing:
        if request.key.created:
            key = request.key
            doing.note(f"made your signing key: {key.path}   (verifiers need {key.public_file})")
        return runner.run(
            request,
            on_event=_telling(doing),
        )


def _telling(doing: Step) -> Callable[[runner.Settled], None]:
    """Return what tells each answer as progress of a step."""

    def tell(told: runner.Settled) -> None:
        doing.progress(told.result.id, told.done, told.total, status=told.result.status)

    return tell


def simulate(
    machine: Machine,
    plan: Plan,
    settings: Settings,
    *,
    on_event: OnEvent,
    asked: Asked = EVERYTHING,
) -> SmokeRun:
    """Tell what a machine would be asked, and record it as what it is: no evidence. The machine
    need not run.

    Raises:
        RaveError: HOST if something cannot be written.
    """
    request = _request(machine, plan, settings, asked)
    if asked.provisions is not None:
        request = replace(request, provisions=asked.provisions(machine))
    with step(on_event, "check", f"Simulating the checks of {machine.name}") as doing:
        return simulated.simulate(
            request,
            on_event=_telling(doing),
        )


def simulate_fresh(
    plan: Plan,
    settings: Settings,
    *,
    mode: Mode,
    network: Network,
    on_event: OnEvent,
    asked: Asked = EVERYTHING,
) -> SmokeRun:
    """As `simulate`, of a machine that is made for it, is not started, and is deleted afterwards.

    Raises:
        RaveError: as building an image and making a machine do.
    """
    image = images.get(plan, settings, mode=mode, on_event=on_event)
    name = f"simulated-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    machine = store.create(machines.NewMachine(plan, mode, name, network=network).spec(image))
    try:
        own = plans.of(machine, lambda: plan, on_event=on_event)
        return simulate(machine, own, settings, on_event=on_event, asked=asked)
    finally:
        lifecycle.delete(name, force=True)


def _within(on_event: OnEvent) -> OnEvent:
    """Tell what happens within the step of the checks, as notes."""

    def tell(event: Event) -> None:
        if event.kind in ("begin", "note", "warning"):
            kind: Kind = "note" if event.kind == "begin" else event.kind
            on_event(Event(kind, "check", event.text))

    return tell


def _request(
    machine: Machine, plan: Plan, settings: Settings, asked: Asked, session: Session | None = None
) -> SmokeRequest:
    named = settings.text("RAVE_SIGNING_KEY")
    key = signing_key(Path(named).expanduser() if named else None)
    flake = settings.flake
    return SmokeRequest(
        machine=machine,
        plan=plan,
        operator=open_operator(plan, place(asked.file)),
        output=asked.output,
        key=key,
        timeout=asked.timeout or settings.validation_timeout,
        phases=frozenset(asked.phases) or None,
        lock_file=flake / "flake.lock" if flake else None,
        nonce=asked.nonce,
        session=session,
    )


def prove_fresh(
    plan: Plan,
    settings: Settings,
    *,
    mode: Mode,
    network: Network,
    on_event: OnEvent,
    asked: Asked = EVERYTHING,
) -> SmokeRun:
    """Check a machine that is made for this run, given its secrets, and deleted afterwards. Of one
    that does not become ready an aborted run is written.

    Raises:
        RaveError: as building, starting, installing and checking do.
    """

    def unready(machine: Machine, error: NotReadyError) -> None:
        try:
            run = runner.forgo(_request(machine, plan, settings, asked), error.message)
        except RaveError as fault:
            error.detail += (f"no transcript: {fault.message}",)
        else:
            names = ("transcript", "junit")
            error.detail += tuple(f"{name}: {run.files[name]}" for name in names)

    image = images.get(plan, settings, mode=mode, on_event=on_event)
    with machines.fresh(
        plan, image, mode=mode, network=network, on_event=on_event, on_unready=unready
    ) as machine:
        own = plans.of(machine, lambda: plan, on_event=on_event)
        secure.install_if_any(machine, own, asked.file, on_event=on_event)
        return prove(machine, own, settings, on_event=on_event, asked=asked)


def passed(run: SmokeRun) -> bool:
    """Return whether a run found nothing that is wrong; warnings are not wrong."""
    return run.status in ("SUCCESS", "WARNING")
