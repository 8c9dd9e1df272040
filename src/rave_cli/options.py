"""What every command is given: how to talk, what the user set, and the options that mean the same
wherever they stand, with their completions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rave_cli.flows.machine import NewMachine
    from rave_cli.pool.jobs import JobInput, Work
    from rave_cli.profiles.catalog import Catalog, Plan
    from rave_cli.profiles.names import Mode
    from rave_cli.settings import Settings
    from rave_cli.show import Show

    Complete = Callable[[click.Context, click.Parameter, str], list[str]]


@dataclass(frozen=True)
class App:
    """The object Click hands to commands (`@pass_app`)."""

    show: Show
    settings: Settings

    def catalog(self) -> Catalog:
        """Return the catalog of the flake around us, or the one baked into this rave."""
        from rave_cli.profiles.source import load_catalog

        return load_catalog(self.settings.flake)

    def plan(self, profile: str | None, base: str | None, mode: Mode | None = None) -> Plan:
        """Return the plan for a profile and base, each defaulting to the settings, in a mode."""
        plan = self.catalog().plan(
            profile or self.settings.text("RAVE_PROFILE"), base or self.settings.text("RAVE_BASE")
        )
        return plan.in_mode(mode) if mode else plan

    def new_machine(self, asked: dict[str, Any]) -> NewMachine:
        """Return the machine that the options of `machine_options` ask for."""
        from rave_cli.flows.machine import NewMachine

        mode: Mode = asked["mode"] or self.settings.mode
        plan = self.plan(asked["profile"], asked["base"], mode)
        return NewMachine(
            plan,
            mode,
            name=asked["name"] or plan.profile,
            memory_mib=asked["memory"],
            cpus=asked["cpus"],
            disk_gib=asked["disk"],
            ports=asked["ports"],
            origin=asked["origin"],
            network=asked["network"],
        )


# Hands a command the App.
pass_app = click.make_pass_decorator(App)


# --- completions ---------------------------------------------------------------------------------


def completing(names: Callable[[], Iterable[str]]) -> Complete:
    """Return a completion of names; a fault only means no completion."""
    from rave_cli.text import cell

    def complete(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
        try:
            # A name that would act on the terminal is none that one could type.
            return [name for name in names() if name.startswith(start) and cell(name) == name]
        except Exception:  # noqa: BLE001 - a shell that is completing cannot show an error
            return []

    return complete


def _machines() -> Iterable[str]:
    from rave_cli.machines.names import stored_names

    return stored_names()


def _phases() -> Iterable[str]:
    from rave_cli.smoke.phases import PHASE_IDS

    return PHASE_IDS


def _profiles() -> Iterable[str]:
    from rave_cli.profiles.names import profiles

    return profiles()


def _bases() -> Iterable[str]:
    from rave_cli.profiles.names import bases

    return bases()


def _templates() -> Iterable[str]:
    from rave_cli.machines.templates import kept

    return kept.names()


def _secrets() -> Iterable[str]:
    from rave_cli.profiles.names import secrets

    return secrets()


def _jobs() -> Iterable[str]:
    from rave_cli.pool.jobstore import open_store

    with open_store() as store:
        return store.names()


complete_machine = completing(_machines)
complete_phase = completing(_phases)
complete_profile = completing(_profiles)
complete_base = completing(_bases)
complete_secret = completing(_secrets)
complete_template = completing(_templates)
complete_job = completing(_jobs)


# --- options -------------------------------------------------------------------------------------

machine_argument = click.argument("name", metavar="NAME", shell_complete=complete_machine)


user_argument = click.argument("user", metavar="USER")
client_argument = click.argument("client", metavar="CLIENT")
password_option = click.option(
    "--with-password", is_flag=True, help="Put the one-time password into the answer of --json."
)


def machines_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add several names and `--all`; `chosen` takes their values."""
    every = click.option("--all", "every", is_flag=True, help="All machines.")
    names = click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_machine)
    return names(every(command))


def chosen(names: tuple[str, ...], *, every: bool) -> tuple[str, ...]:
    """Return the machines that are meant, each once.

    Raises:
        click.UsageError: no name and no `--all`, or both.
    """
    if bool(names) == every:
        raise click.UsageError("Give the NAME of a machine, or several, or --all.")
    return tuple(dict.fromkeys(names or _machines()))


profile_option = click.option(
    "--profile",
    metavar="PROFILE",
    shell_complete=complete_profile,
    help="production, development or demo.",
)
base_option = click.option(
    "--base",
    metavar="BASE",
    shell_complete=complete_base,
    help="What the guest is assembled from: nixos or debian.",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(["safe", "full"]),
    help="Resource caps: safe (the default) is memory-disciplined.",
)
secrets_file_option = click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Secrets file instead of $XDG_CONFIG_HOME/rave/secrets.sops.yaml.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print the exact QEMU command; make and start nothing."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
patience_option = click.option(
    "--patience", type=click.FloatRange(min=0), metavar="SECONDS",
    help="Time for the guest's own shutdown (default 30, busy hosts more); 0 ends it at once.",
)  # fmt: skip
keep_option = click.option(
    "--keep-running", is_flag=True, help="Leave a machine that does not become ready running."
)


def resource_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a machine's size."""
    for option in reversed((
        click.option("--memory", type=int, metavar="MIB", help="Memory instead of the plan's."),
        click.option("--cpus", type=int, metavar="N", help="CPUs instead of the plan's."),
        click.option("--disk", type=int, metavar="GIB", help="Disk size instead of the plan's."),
    )):  # fmt: skip
        command = option(command)
    return command


port_option = click.option(
    "--port", "ports", multiple=True, metavar="HOST:GUEST",
    help="Fix the host port of an exposed guest port (repeatable); else any free one.",
)  # fmt: skip
origin_option = click.option(
    "--origin", metavar="URL",
    help="https://HOST[:PORT] of your own, under which people open its pages.",
)  # fmt: skip


def machine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that define a new machine; `App.new_machine` takes their values."""
    for option in reversed((
        profile_option,
        base_option,
        mode_option,
        click.option("--name", metavar="NAME", help="The machine's name; else the profile's."),
        resource_options,
        port_option,
        origin_option,
        click.option(
            "--network", type=click.Choice(["isolated", "nat"]), default="isolated",
            show_default=True, help="isolated: the guest cannot reach out; nat: it can.",
        ),
    )):  # fmt: skip
        command = option(command)
    return command


job_argument = click.argument("job", metavar="JOB", shell_complete=complete_job)

# Those of rave_platform's HandoverState, which a test holds equal: the CLI never imports it.
EVENT_STATES = ("accepted", "published", "dead")

# Those of pool/jobs.py, which a test holds equal: importing it would cost every command.
JOB_STATES = (
    "waiting", "running", "success", "failure", "error", "timeout", "cancelled", "skipped",
)  # fmt: skip


def work_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the command of a job, what it gets and its limits; `work_of` takes their values."""
    for option in reversed((
        click.argument("command", nargs=-1, type=click.UNPROCESSED),
        click.option(
            "--script", type=click.File("rb"), metavar="FILE",
            help="A program's text to run, - from standard input; COMMAND are its arguments.",
        ),
        click.option(
            "--input", "given", metavar="FOLDER",
            help="Unpack a copy of this where the command runs; - is a tar on standard input.",
        ),
        click.option(
            "--git", "repository", metavar="URL",
            help="The same, of a commit, which is fetched now, by this host's git.",
        ),
        click.option(
            "--revision", metavar="REV", default="HEAD", show_default=True,
            help="Branch, tag or commit of --git.",
        ),
        click.option(
            "--env", "environment", multiple=True, metavar="NAME=VALUE",
            help="A variable for the command; no secret (repeatable).",
        ),
        click.option(
            "--secret", "secrets", multiple=True, metavar="NAME", shell_complete=complete_secret,
            help="Lay out this secret in a file below $RAVE_SECRETS (repeatable).",
        ),
        click.option(
            "--artifact", "artifacts", multiple=True, metavar="PATH",
            help="Keep this file or folder that the command leaves where it runs (repeatable).",
        ),
        click.option(
            "--timeout", type=click.FloatRange(min=0, min_open=True, max=7 * 86400), default=600,
            show_default=True, metavar="SECONDS", help="Time for each attempt, all in all.",
        ),
        click.option(
            "--retries", type=click.IntRange(0, 100), default=0, show_default=True, metavar="N",
            help="Try it again so often if it fails or takes too long.",
        ),
        click.option(
            "--expires", type=click.FloatRange(min=0), metavar="SECONDS",
            help="Skip it if it has not begun by then.",
        ),
        click.option(
            "--most-output", type=click.IntRange(1, 16384), default=1024, show_default=True,
            metavar="KIB", help="How much output of an attempt is kept.",
        ),
        click.option(
            "--most-artifacts", type=click.IntRange(1, 65536), default=64, show_default=True,
            metavar="MIB", help="How large its artifacts may be.",
        ),
        click.option(
            "--most-disk", type=click.IntRange(1, 1 << 20), default=8192, show_default=True,
            metavar="MIB", help="How much its machine may write to its disk.",
        ),
    )):  # fmt: skip
        command = option(command)
    return command


def work_of(asked: dict[str, Any]) -> Work:
    """Return the work that the options of `work_options` ask for; what it is given is kept.

    Raises:
        click.UsageError: options that do not go together.
        RaveError: USAGE if the command is no text, or too long; as keeping what it is given.
    """
    import time

    from rave_cli.pool.jobs import Work, pair_of, script_of

    script, expires = asked["script"], asked["expires"]
    sources = [asked["given"], asked["repository"]]
    if all(sources):
        raise click.UsageError("Either --input or --git.")
    if asked["given"] == "-" and script is not None and script.name == "<stdin>":
        raise click.UsageError("Standard input is either the script or what the job is given.")
    work = Work(
        command=asked["command"],
        timeout=asked["timeout"],
        retries=asked["retries"],
        most_output=asked["most_output"] << 10,
        expires=None if expires is None else time.time() + expires,
        script="" if script is None else script_of(script.read()),
        environment=tuple(map(pair_of, asked["environment"])),
        secrets=asked["secrets"],
        artifacts=asked["artifacts"],
        most_artifacts=asked["most_artifacts"] << 20,
        most_disk=asked["most_disk"] << 20,
    )
    return replace(work, given=_given(asked)) if any(sources) else work


def _given(asked: dict[str, Any]) -> JobInput:
    import sys

    from rave_cli.pool import inputs

    if asked["repository"]:
        return inputs.keep_commit(asked["repository"], asked["revision"])
    if asked["given"] == "-":
        return inputs.keep_stream(sys.stdin.fileno())
    return inputs.keep_folder(Path(asked["given"]))


def output_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option of the directory that holds transcripts and reports."""
    return click.option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("artifacts"),
        show_default=True,
        help=text,
    )


def _speak_json(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Let `--json` stand behind the command as well as before it."""
    if wanted:
        app = ctx.find_object(App)
        if app is not None:
            ctx.obj = replace(app, show=replace(app.show, as_json=True))


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_speak_json,
    help="Print one JSON document on stdout.",
)
