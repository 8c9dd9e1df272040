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
        """Return the catalog of the flake around us, or the one baked into this rave, with what
        the operator has accepted.
        """
        from rave_cli.profiles.source import load_catalog

        return load_catalog(self.settings.flake).accepting(self.settings.accepted)

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
    from rave_cli.pool.jobs.store import open_store

    with open_store() as store:
        return store.names()


def _sources() -> Iterable[str]:
    from rave_cli.pool.sources.source import read

    return [one.name for one in read()]


complete_machine = completing(_machines)
complete_phase = completing(_phases)
complete_profile = completing(_profiles)
complete_base = completing(_bases)
complete_secret = completing(_secrets)
complete_template = completing(_templates)
complete_job = completing(_jobs)
complete_source = completing(_sources)


# --- options -------------------------------------------------------------------------------------

machine_argument = click.argument("name", metavar="NAME", shell_complete=complete_machine)

traced_machine_option = click.option(
    "--vm", "name", metavar="NAME", shell_complete=complete_machine,
    help="The running machine; without it the only one that there is.",
)  # fmt: skip

user_argument = click.argument("user", metavar="USER")
client_argument = click.argument("client", metavar="CLIENT")
backup_argument = click.argument("backup", metavar="BACKUP")
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
built_option = click.option(
    "--built", is_flag=True, help="Take the image that was built last, and build none."
)
skip_smoke_option = click.option(
    "--skip-smoke", is_flag=True, help="Do not run the smoke suite: healthy services will do."
)
updates_option = click.option(
    "--updates", is_flag=True,
    help="Also the systems and data of before updates, and what rollbacks set aside.",
)  # fmt: skip
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

endpoint_option = click.option(
    "--endpoint", envvar="RAVE_POOL_ENDPOINT", metavar="URL",
    help="Ask the pool that is served there, https://HOST:PORT or unix:PATH, instead of your own."
    " RAVE_POOL_TOKEN has the token, RAVE_POOL_CA the file of certificates to trust.",
)  # fmt: skip

# Those of rave_platform's HandoverState, which a test holds equal: the CLI never imports it.
EVENT_STATES = ("accepted", "published", "dead")


# Those of pool/jobs/job.py, which a test holds equal: importing it would cost every command.
JOB_STATES = (
    "waiting", "running", "success", "failure", "error", "timeout", "cancelled", "skipped",
)  # fmt: skip

# Those of pool/sources/source.py, which a test holds equal.
FORGES = ("gitlab", "github", "gitea", "forgejo", "pagure")
TRIGGERS = ("push", "merge-request", "tag")

# Those of pool/api/tokens.py, which a test holds equal.
POOL_ROLES = ("viewer", "submitter", "operator", "admin")


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
