"""`rave vm`: machines, from the image to the shell prompt and back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from rave_cli.options import (
    base_option,
    json_option,
    mode_option,
    pass_app,
    profile_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.images.manifest import Image
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.machines.store import Damaged
    from rave_cli.options import App
    from rave_cli.profiles.catalog import Mode, Plan

# Where a forwarded port leads, for people. Others are shown as numbers.
STATUS_PAGE = 3002

# How much of a guest's journal is shown if nobody says.
JOURNAL_LINES = 1000


def complete_machine(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Return the machines whose names begin with `start`; a fault only means no completion."""
    try:
        from rave_cli.machines.names import stored_names

        return [name for name in stored_names() if name.startswith(start)]
    except Exception:  # noqa: BLE001 - a shell that is completing cannot show an error
        return []


machine_argument = click.argument("name", metavar="NAME", shell_complete=complete_machine)


def machine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that define a new machine."""
    for option in reversed((
        profile_option,
        base_option,
        mode_option,
        click.option("--name", metavar="NAME", help="The machine's name; else the profile's."),
        click.option("--memory", type=int, metavar="MIB", help="Memory instead of the plan's."),
        click.option("--cpus", type=int, metavar="N", help="CPUs instead of the plan's."),
        click.option("--disk", type=int, metavar="GIB", help="Disk size instead of the plan's."),
        click.option(
            "--port", "ports", multiple=True, metavar="HOST:GUEST",
            help="Fix the host port of an exposed guest port (repeatable); else any free one.",
        ),
        click.option(
            "--network", type=click.Choice(["isolated", "nat"]), default="isolated",
            show_default=True, help="isolated: the guest cannot reach out; nat: it can.",
        ),
    )):  # fmt: skip
        command = option(command)
    return command


dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print the exact QEMU command; make and start nothing."
)
keep_option = click.option(
    "--keep-running", is_flag=True, help="Leave a machine that does not become ready running."
)


@click.command("list-profiles")
@json_option
@pass_app
def list_profiles(app: App) -> None:
    """List the profiles, what each base carries of them, and their resources.

    \b
    Example: rave vm list-profiles
    """
    rows, documents = [], []
    for name, profile in app.catalog().profiles.items():
        for base, plan in profile.bases.items():
            safe, full = plan.resources.safe, plan.resources.full
            documents.append({
                "profile": name,
                "base": base,
                "description": profile.description,
                "services": list(plan.services),
                "absent": list(plan.absent),
                "resources": plan.resources.model_dump(by_alias=True),
            })  # fmt: skip
            rows.append((
                name, base, f"{len(plan.services)} of {len(profile.services)}",
                f"{safe.memory_mib} MiB, {safe.cpus} CPUs, {safe.disk_gib} GiB",
                f"{full.memory_mib} MiB, {full.cpus} CPUs, {full.disk_gib} GiB",
                profile.description,
            ))  # fmt: skip
    columns = ("profile", "base", "services", "safe", "full", "purpose")
    app.show.result(documents, app.show.table(columns, rows))


@click.command("launch-local")
@machine_options
@dry_run_option
@keep_option
@json_option
@pass_app
def launch_local(app: App, /, dry_run: bool, keep_running: bool, **asked: Any) -> None:  # noqa: ANN401 - the options of machine_options
    """Create a machine and start it: `create` and `start` in one. Builds a missing image.

    Interrupted or failed, it ends QEMU and leaves a stopped machine that `start` takes up again.

    \b
    Example: rave vm launch-local --profile demo --base debian
    Example: rave vm launch-local --profile demo --name web --port 8443:3002 --memory 3072
    """
    from rave_cli.machines import preflight, store

    spec = _specify(app, asked, build=not dry_run)
    if dry_run:
        _show_command(app, spec)
        return
    preflight.check_ports(spec.forwards)
    machine = store.create(spec)
    app.show.note(f"machine {machine.name} created")
    _show_ready(app, start_machine(app, machine, keep_running=keep_running))


@click.command()
@machine_options
@json_option
@pass_app
def create(app: App, /, **asked: Any) -> None:  # noqa: ANN401 - the options of machine_options
    """Make a machine: overlay disk, host key, login key and age identity. It is not started.

    \b
    Example: rave vm create --profile demo --base debian --name web
    """
    from rave_cli.machines import status as present
    from rave_cli.machines import store

    machine = store.create(_specify(app, asked, build=True))
    app.show.note(f"start it: rave vm start {machine.name}")
    app.show.result(present.of(machine).document, machine.name)


@click.command()
@machine_argument
@dry_run_option
@keep_option
@json_option
@pass_app
def start(app: App, name: str, dry_run: bool, keep_running: bool) -> None:
    """Start a machine and wait until it is ready; join the wait if it is starting already.

    \b
    Example: rave vm start demo
    """
    from rave_cli.machines import store

    machine = store.load(name)
    if dry_run:
        _show_command(app, machine.spec)
        return
    _show_ready(app, start_machine(app, machine, keep_running=keep_running))


@click.command()
@machine_argument
@click.option(
    "--patience", type=click.FloatRange(min=0), metavar="SECONDS",
    help="Time for the guest's own shutdown (default 30); 0 ends it at once.",
)  # fmt: skip
@json_option
@pass_app
def stop(app: App, name: str, patience: float | None) -> None:
    """Stop a machine: power button, then QMP quit, then SIGTERM, then SIGKILL.

    \b
    Example: rave vm stop demo
    """
    from rave_cli.machines import store
    from rave_cli.machines.lifecycle import stop as stop_machine
    from rave_cli.machines.qemu.stop import PATIENCE

    machine = store.load(name)
    with app.show.progress(f"Stopping {name}") as progress:
        report = stop_machine(
            machine, patience=PATIENCE if patience is None else patience, on_rung=progress.update
        )
    document = {"name": name, "rung": report.rung, "seconds": round(report.seconds, 3)}
    text = f"{name} stopped by {report.rung} after {report.seconds:.1f} s"
    app.show.result(document, f"{name} was not running" if report.rung == "not-running" else text)


@click.command()
@machine_argument
@json_option
@pass_app
def status(app: App, name: str) -> None:
    """Show what a machine is doing, as its process, QEMU and its guest tell.

    \b
    Example: rave vm status demo --json
    """
    from rave_cli.machines import status as present
    from rave_cli.machines import store

    document = present.of(store.load(name)).document
    rows = [(key, _plain(value)) for key, value in document.items() if value not in (None, "", {})]
    app.show.result(document, app.show.table(("", ""), rows))


@click.command("list")
@json_option
@pass_app
def list_(app: App) -> None:
    """List all machines.

    \b
    Example: rave vm list
    """
    from rave_cli.machines import store

    documents = [_summary(entry) for entry in store.list_machines()]
    keys = ("name", "state", "profile", "base", "mode", "memoryMiB", "ports", "detail")
    rows = [tuple(_plain(document.get(key)) for key in keys) for document in documents]
    text = app.show.table(keys, rows) if rows else ""
    if not rows:
        app.show.note("no machines; make one: rave vm launch-local --profile demo")
    app.show.result(documents, text)


@click.command(context_settings={"ignore_unknown_options": True})
@machine_argument
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, arguments: tuple[str, ...]) -> None:
    """Log in to a machine with OpenSSH; its host key is checked against the pinned one.

    What stands behind the name goes to ssh: options, or a command.

    \b
    Example: rave vm ssh demo
    Example: rave vm ssh demo -- -L 9090:localhost:9090
    """
    from rave_cli import process
    from rave_cli.machines import store
    from rave_cli.machines.guest.ssh import openssh_argv
    from rave_cli.machines.qemu import ports

    machine = store.load(name)
    port = ports.ssh(machine)
    process.become(openssh_argv(machine, port, arguments, terminal=sys.stdin.isatty()))


@click.command("exec", context_settings={"ignore_unknown_options": True})
@machine_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--stdin", "with_input", is_flag=True, help="Pass standard input on.")
@click.option("--sudo", is_flag=True, help="Run it as root.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True,
    metavar="SECONDS", help="Time for the command.",
)  # fmt: skip
@json_option
@pass_app
def exec_(
    app: App, name: str, command: tuple[str, ...], *, with_input: bool, sudo: bool, timeout: float
) -> int:
    """Run one command in a machine and end with its exit status.

    \b
    Example: rave vm exec demo -- sudo systemctl is-active nginx
    """
    from rave_cli.machines import store
    from rave_cli.machines.guest.ssh import connect

    machine = store.load(name)
    data = sys.stdin.buffer.read() if with_input else b""
    with connect(machine) as session:
        done = session.run(command, stdin=data, timeout=timeout, sudo=sudo)
    if app.show.as_json:
        document = {
            "exitStatus": done.returncode,
            "stdout": done.text,
            "stderr": done.error_text,
        }
        app.show.result(document, "")
    else:
        sys.stdout.buffer.write(done.stdout)
        sys.stdout.buffer.flush()
        sys.stderr.buffer.write(done.stderr)
        sys.stderr.buffer.flush()
    return done.returncode


@click.command()
@machine_argument
@click.option(
    "--source", type=click.Choice(["console", "qemu", "stages", "journal"]), default="console",
    show_default=True, help="Which log; the journal is read over SSH.",
)  # fmt: skip
@click.option("-n", "--lines", type=click.IntRange(min=1), metavar="N", help="Only the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added.")
@json_option
@pass_app
def logs(app: App, name: str, source: str, lines: int | None, follow: bool) -> None:
    """Show the console of a machine since its last start, or what QEMU or its guest reported.

    \b
    Example: rave vm logs demo --follow
    Example: rave vm logs demo --source journal -n 100
    """
    from rave_cli.machines import logs as reading
    from rave_cli.machines import store

    if follow and (app.show.as_json or source == "journal"):
        raise click.UsageError("--follow goes with neither --json nor the journal.")
    machine = store.load(name)
    file = {"console": machine.console_log, "qemu": machine.qemu_log, "stages": machine.stage_file}
    if source == "journal":
        found = reading.journal(machine, lines or JOURNAL_LINES)
    else:
        found = reading.lines(machine, file[source], last=lines, follow=follow)
    if app.show.as_json:
        app.show.result({"name": name, "source": source, "lines": list(found)}, "")
    else:
        for text in found:
            click.echo(text)


@click.command()
@machine_argument
@click.option("--force", is_flag=True, help="Even if it runs or its record is damaged.")
@json_option
@pass_app
def delete(app: App, name: str, force: bool) -> None:
    """Delete a machine with its disk, keys and logs. The image stays.

    \b
    Example: rave vm delete demo
    """
    from rave_cli.machines import lifecycle

    lifecycle.delete(name, force=force)
    app.show.result({"name": name, "deleted": True}, f"{name} deleted")


def start_machine(app: App, machine: Machine, *, keep_running: bool = False) -> Ready:
    """Start a machine, showing each stage as it is reached."""
    from rave_cli.flows.narration import of_boot
    from rave_cli.machines import lifecycle

    with app.show.progress(f"Starting {machine.name}") as progress:
        return lifecycle.start(machine, on_stage=of_boot(progress), keep_running=keep_running)


def _specify(app: App, asked: dict[str, Any], *, build: bool) -> MachineSpec:
    """Return what the options ask for; nothing is made but, with `build`, a missing image."""
    from rave_cli.machines import store
    from rave_cli.machines.names import stored_names
    from rave_cli.machines.spec import check_name, choose_forwards, parse_forward

    mode = asked["mode"] or app.settings.mode
    plan = app.plan(asked["profile"], asked["base"]).in_mode(mode)
    name = check_name(asked["name"] or plan.profile)
    forwards = [parse_forward(text) for text in asked["ports"]]
    choose_forwards(plan, forwards)
    # A build takes minutes: what can be refused without it is refused before it.
    if build and name in stored_names():
        raise store.taken(name)
    return store.new_spec(
        plan,
        image_of(app, plan, mode) if build else _built_image(plan),
        name=name,
        mode=mode,
        memory_mib=asked["memory"],
        cpus=asked["cpus"],
        disk_gib=asked["disk"],
        forwards=forwards,
        network=asked["network"],
    )


def image_of(app: App, plan: Plan, mode: Mode) -> Image:
    """Return the image of a plan; built if there is none yet."""
    from rave_cli.flows.narration import of_build
    from rave_cli.images.build import build_image, existing_image

    image = existing_image(plan)
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


def _built_image(plan: Plan) -> Image:
    """Return the image of a plan, without building one."""
    from rave_cli.errors import ExitCode, RaveError
    from rave_cli.images.build import existing_image

    image = existing_image(plan)
    if image is None:
        raise RaveError(
            f"there is no image of {plan.profile} on {plan.base} yet, so no command to show",
            hint=f"rave vm build-image --profile {plan.profile} --base {plan.base}",
            exit_code=ExitCode.HOST,
        )
    return image


def _show_command(app: App, spec: MachineSpec) -> None:
    """Print what `start` would run, one option and its value per line."""
    from rave_cli.machines import lifecycle
    from rave_cli.machines.qemu import accelerator
    from rave_cli.machines.qemu.argv import pretty
    from rave_cli.machines.spec import locate

    argv = lifecycle.command(locate(spec), accelerator.detect())
    app.show.result({"argv": list(argv)}, pretty(argv))


def _show_ready(app: App, ready: Ready) -> None:
    """Print how to reach a machine that is ready."""
    for note in ready.notes:
        app.show.note(note)
    app.show.note(f"{ready.accelerator.kind}: {ready.accelerator.reason}")
    app.show.result(ready.document, "\n".join(ready_lines(ready, secrets=ready.secrets)))
    if ready.secrets != "installed":
        app.show.note(f"next: rave secrets install {ready.machine.name}")


def ready_lines(ready: Ready, *, secrets: str) -> list[str]:
    """Return how to reach a machine that is ready, for people."""
    name = ready.machine.name
    when = "was running already" if ready.joined else f"is ready after {ready.seconds:.1f} s"
    lines = [f"machine {name} {when}"]
    lines += [f"  ssh          rave vm ssh {name}"]
    if STATUS_PAGE in ready.ports:
        lines += [f"  status page  https://127.0.0.1:{ready.ports[STATUS_PAGE]}/"]
    return [*lines, f"  secrets      {secrets}"]


def _summary(entry: Machine | Damaged) -> dict[str, Any]:
    """Return the document of one machine; a damaged record is told instead of hidden."""
    from rave_cli.machines import status as present
    from rave_cli.machines.spec import Machine

    if isinstance(entry, Machine):
        return present.of(entry).document
    return {"name": entry.name, "state": "damaged", "detail": entry.error.message}


def _plain(value: object) -> str:
    """Return a value of a document as people read it."""
    if isinstance(value, dict):
        return " ".join(f"{key}={_plain(entry)}" for key, entry in value.items())
    return "" if value is None else str(value)
