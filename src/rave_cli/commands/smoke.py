"""`rave smoke`: check a machine, sign what was found, verify it later."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.errors import ExitCode
from rave_cli.options import (
    base_option,
    json_option,
    mode_option,
    pass_app,
    profile_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine, Network
    from rave_cli.options import App
    from rave_cli.profiles.catalog import Mode, Plan
    from rave_cli.smoke.model import SmokeRun

OUTPUT = Path("artifacts")


def complete_phase(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Return the phases whose ids begin with `start`."""
    from rave_cli.smoke.model import PHASE_IDS

    return [id_ for id_ in PHASE_IDS if id_.startswith(start)]


def complete_machine(ctx: click.Context, param: click.Parameter, start: str) -> list[str]:
    """Return the machines whose names begin with `start`."""
    from rave_cli.commands.vm import complete_machine as complete

    return complete(ctx, param, start)


@click.group()
def smoke() -> None:
    """Check a machine from inside and outside, and prove it with a signed transcript."""


@smoke.command("run")
@profile_option
@base_option
@mode_option
@click.option(
    "--vm", "name", metavar="NAME", shell_complete=complete_machine,
    help="Check this running machine instead of a fresh one.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=OUTPUT,
    show_default=True, help="Directory of the transcript and the reports.",
)  # fmt: skip
@click.option(
    "--phase", "phases", multiple=True, metavar="PHASE", shell_complete=complete_phase,
    help="Ask only this phase (repeatable); the others are recorded as skipped.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="Time for the checks, instead of VALIDATION_TIMEOUT.",
)  # fmt: skip
@click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path),
    help="Secrets file instead of $XDG_CONFIG_HOME/rave/secrets.sops.yaml.",
)  # fmt: skip
@click.option(
    "--network", type=click.Choice(["isolated", "nat"]), default="isolated", show_default=True,
    help="Network of a fresh machine; nat lets it reach out, and skips the proof that it cannot.",
)  # fmt: skip
@click.option("--nonce", metavar="TEXT", help="A challenge for the transcript to carry.")
@json_option
@pass_app
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
    nonce: str | None,
) -> int:
    """Check a machine and write its signed transcript and reports (JSON, JUnit, TAP, Prometheus).

    Without --vm a fresh machine is made from the image, given its secrets, checked and deleted.
    Exit code 1 if a check failed or could not be carried out; skipped checks are neither.

    \b
    Example: rave smoke run --profile demo --base debian
    Example: rave smoke run --vm demo --phase security --json
    """
    check_phases(phases)
    if name is not None and (profile or base or mode):
        raise click.UsageError("--vm names a machine; --profile, --base and --mode make a new one.")
    with _subject(
        app, name=name, profile=profile, base=base, mode=mode, network=network, file=file
    ) as (machine, plan):
        found = check_machine(
            app,
            machine,
            plan,
            output=output,
            file=file,
            phases=phases,
            timeout=timeout,
            nonce=nonce,
        )
    app.show.result(found.document(), summary(app, found))
    return ExitCode.OK if found.status in ("SUCCESS", "WARNING") else ExitCode.CHECK_FAILED


def check_phases(phases: tuple[str, ...]) -> None:
    """Refuse a phase that does not exist."""
    from rave_cli.smoke.model import PHASE_IDS

    for phase in phases:
        if phase not in PHASE_IDS:
            raise click.BadParameter(
                f"there is no phase {phase!r} (known: {', '.join(PHASE_IDS)})",
                param_hint="--phase",
            )


def check_machine(
    app: App,
    machine: Machine,
    plan: Plan,
    *,
    output: Path = OUTPUT,
    file: Path | None = None,
    phases: tuple[str, ...] = (),
    timeout: float | None = None,
    nonce: str | None = None,
) -> SmokeRun:
    """Carry out a smoke run on a running machine, showing each result as it comes."""
    from rave_cli.flows.fresh import terminations
    from rave_cli.secrets.store import default_file
    from rave_cli.smoke import runner
    from rave_cli.smoke.operator import open_operator
    from rave_cli.smoke.request import Request
    from rave_cli.transcript import signing_key

    named = app.settings.text("RAVE_SIGNING_KEY")
    key = signing_key(Path(named).expanduser() if named else None)
    if key.created:
        app.show.note(f"made your signing key: {key.path}   (verifiers need {key.public_file})")
    flake = app.settings.flake
    request = Request(
        machine=machine,
        plan=plan,
        operator=open_operator(plan, file or default_file()),
        output=output,
        key=key,
        timeout=timeout or app.settings.validation_timeout,
        phases=frozenset(phases) or None,
        lock_file=flake / "flake.lock" if flake else None,
        nonce=nonce,
    )
    with app.show.progress(f"Checking {machine.name}") as progress, terminations():
        return runner.run(
            request, on_event=lambda e: progress.update(_step(app, e), e.done, e.total)
        )


def _step(app: App, event: object) -> str:
    from rave_cli.smoke.runner import Progress

    assert isinstance(event, Progress)  # noqa: S101 - what the runner tells
    result = event.result
    return f"{app.show.mark(result.status)} {result.id}"


@contextmanager
def _subject(
    app: App,
    *,
    name: str | None,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    network: Network,
    file: Path | None,
) -> Iterator[tuple[Machine, Plan]]:
    """Yield the machine to check with its plan: a running one, or a fresh one with its secrets."""
    from rave_cli.machines import store

    if name is not None:
        machine = store.load(name)
        yield machine, app.plan(machine.spec.profile, machine.spec.base)
        return
    from rave_cli.flows import fresh
    from rave_cli.flows.narration import of_boot

    chosen = mode or app.settings.mode
    plan = app.plan(profile, base).in_mode(chosen)
    image = _image(app, plan, chosen)
    with ExitStack() as stack:
        # Only one progress is shown at a time, and the machine outlives this one.
        with app.show.progress("Starting a fresh machine") as progress:
            machine = stack.enter_context(
                fresh.machine(plan, image, mode=chosen, network=network, on_stage=of_boot(progress))
            )
        _give_secrets(app, machine, plan, file)
        yield machine, plan


def _image(app: App, plan: Plan, mode: Mode) -> Image:
    """Return the image of the checkout around us; outside of one, the last that was built."""
    from rave_cli.flows.narration import of_build
    from rave_cli.images.build import build_image, existing_image

    image = None if app.settings.flake else existing_image(plan)
    if image is not None:
        return image
    with app.show.progress(f"Building {plan.attr}") as progress:
        return build_image(
            plan,
            flake=app.settings.require_flake(),
            mode=mode,
            sources=app.settings.sources,
            on_event=of_build(progress, app.show.warning),
        )


def _give_secrets(app: App, machine: Machine, plan: Plan, file: Path | None) -> None:
    """Install the operator's secrets, if there are any; without, the checks that need them skip."""
    from rave_cli.secrets.install import install
    from rave_cli.secrets.store import default_file

    place = file or default_file()
    if file is None and not place.exists():
        app.show.warning(f"there is no secrets file {place}; checks that need it are skipped")
        app.show.note("make one: rave secrets init")
        return
    with app.show.progress("Installing secrets") as progress:
        install(machine, plan, place, on_event=progress.update)


def summary(app: App, found: SmokeRun) -> str:
    """Return what people want to know: a line per phase, what failed and what it means."""
    from rave_cli.smoke.model import PHASES
    from rave_cli.smoke.runner import NOT_ASKED
    from rave_cli.transcript.check import STATUSES

    rows = []
    for phase in PHASES:
        counts = found.count(phase.id)
        if not sum(counts.values()):
            continue
        verdict = next((s for s in ("error", "fail", "warn", "pass") if counts[s]), "skip")
        numbers = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
        seconds = f"{found.phase_seconds.get(phase.id, 0.0):.1f} s"
        rows.append((app.show.mark(verdict), phase.title, numbers, seconds))
    lines = [app.show.table(("", "phase", "checks", "time"), rows), ""]
    for result in found.results:
        if result.status in ("fail", "error", "warn"):
            lines.append(f"{app.show.mark(result.status)} {result.id}: {result.title}")
            lines.append(f"     {result.detail}")
    reasons = [r for r in found.results if r.status == "skip" and r.detail != NOT_ASKED]
    lines += [f"{app.show.mark('skip')} {r.id}: {r.detail}" for r in reasons]
    lines += ["", f"{found.status} in {found.seconds:.1f} s", *_places(found)]
    return "\n".join(lines)


def _places(found: SmokeRun) -> list[str]:
    lines = [f"transcript: {found.files['transcript']}"]
    if "attestation" in found.files:
        lines.append(f"verify it:  rave smoke verify {found.files['transcript']} --allowed-signers"
                     " ~/.config/rave/signing/allowed_signers")  # fmt: skip
    lines.append(f"reports:    {found.files['json']} (and .junit.xml, .tap, .prom)")
    return lines


@smoke.command("verify")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public key you trust: OpenSSH or PEM.",
)  # fmt: skip
@click.option(
    "--allowed-signers", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The keys you trust, as OpenSSH lists them.",
)  # fmt: skip
@click.option("--principal", metavar="NAME", help="Who of the allowed signers it must have been.")
@click.option(
    "--image", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The qcow2 that the run must have been about.",
)  # fmt: skip
@click.option(
    "--policy", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What must have been tested (YAML; docs/how-to/verify-a-transcript.md).",
)  # fmt: skip
@click.option("--max-age", metavar="AGE", help="How old the run may be: 90m, 24h, 7d.")
@click.option("--nonce", metavar="TEXT", help="The challenge that the run must carry.")
@profile_option
@base_option
@json_option
@pass_app
def verify(
    app: App,
    *,
    file: Path,
    key: Path | None,
    allowed_signers: Path | None,
    principal: str | None,
    image: Path | None,
    policy: Path | None,
    max_age: str | None,
    nonce: str | None,
    profile: str | None,
    base: str | None,
) -> None:
    """Verify a transcript and all its files with a key that you have from elsewhere.

    Skipped checks, errors and aborted runs never count as passed. Exit code 7 with the reason if
    anything is not as it must be.

    \b
    Example: rave smoke verify artifacts/boot_transcript_….json --key id_ed25519.pub --max-age 24h
    """
    from dataclasses import asdict

    from rave_cli.transcript import parse_age
    from rave_cli.transcript import verify as check

    found = check(
        file,
        key=key,
        allowed_signers=allowed_signers,
        principal=principal,
        image=image,
        policy=policy,
        max_age=parse_age(max_age) if max_age else None,
        nonce=nonce,
        profile=profile,
        base=base,
    )
    counts = f"{len(found.passed)} passed, {len(found.warned)} warned, {len(found.skipped)} skipped"
    lines = [
        f"{file.name} is authentic",
        f"{found.status}: {found.profile} on {found.base}, completed {found.completed}",
        f"signed by {found.signer}",
        f"{counts}; {found.events} events",
        f"image sha256:{found.image_sha256}",
    ]
    if not found.image_checked:
        app.show.note("the image itself was not compared: add --image QCOW2")
    if not found.policy_checked:
        app.show.note("what had to be tested was not checked: add --policy FILE")
    app.show.result(asdict(found), "\n".join(lines))


@smoke.command("list")
@profile_option
@base_option
@mode_option
@click.option(
    "--runs", is_flag=True, help="List the runs in the output directory instead of the checks."
)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=OUTPUT,
    show_default=True, help="With --runs: the directory.",
)  # fmt: skip
@json_option
@pass_app
def list_(
    app: App,
    *,
    profile: str | None,
    base: str | None,
    mode: Mode | None,
    runs: bool,
    output: Path,
) -> None:
    """List every check of a profile, or the runs there have been.

    \b
    Example: rave smoke list --profile demo --base debian
    Example: rave smoke list --runs
    """
    if runs:
        _list_runs(app, output)
        return
    from rave_cli.smoke.questions import Subject, suite

    questions = suite(app.plan(profile, base), Subject(mode=mode or app.settings.mode))
    columns = ("check", "phase", "from", "severity", "passes if")
    rows = [(q.id, q.phase, q.viewpoint, q.severity, q.title) for q in questions]
    documents = [
        {
            "id": q.id, "phase": q.phase, "viewpoint": q.viewpoint, "severity": q.severity,
            "title": q.title, "needs": list(q.needs), "timeout": q.timeout,
            "retryFor": q.retry_for, "skip": q.skip,
        }
        for q in questions
    ]  # fmt: skip
    app.show.result(documents, app.show.table(columns, rows))


def _list_runs(app: App, output: Path) -> None:
    from rave_cli.smoke.runs import find_runs

    found = find_runs(output)
    rows = [(r.started, r.status, f"{r.profile} on {r.base}", r.counts, str(r.file)) for r in found]
    if not found:
        app.show.note(f"no runs in {output}; make one: rave smoke run --profile demo --base debian")
    text = app.show.table(("started", "status", "of", "checks", "transcript"), rows) if rows else ""
    app.show.result([r.document() for r in found], text)
