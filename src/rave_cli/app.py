"""The root command: global options, the table of all verbs, and where errors are reported."""

from __future__ import annotations

import io
import signal
import sys
from typing import TYPE_CHECKING

import click

from rave_cli import __version__, signals, streams
from rave_cli.errors import ExitCode, RaveError
from rave_cli.lazy import CONTEXT, Lazy, LazyGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.show import Show


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "up": Lazy("rave_cli.commands.up:up", "Everything: build, launch, secrets, smoke run."),
        "down": Lazy("rave_cli.commands.down:down", "Stop a machine that `up` launched."),
        "vm": Lazy("rave_cli.app:vm", "Images and machines."),
        "image": Lazy("rave_cli.app:image", "What images are made of."),
        "secrets": Lazy("rave_cli.app:secrets", "SOPS/age secrets."),
        "user": Lazy("rave_cli.app:user", "Who may sign in to a machine's services."),
        "oauth": Lazy("rave_cli.app:oauth", "The services to which people sign in."),
        "events": Lazy("rave_cli.app:events", "What forges told a machine by webhooks."),
        "smoke": Lazy("rave_cli.app:smoke", "Check a machine and prove it."),
        "pool": Lazy("rave_cli.app:pool", "Jobs, each in a new machine."),
        "audit": Lazy("rave_cli.app:audit", "Who did what through rave."),
        "bench": Lazy("rave_cli.commands.bench:bench", "What things cost on this host."),
        "doctor": Lazy("rave_cli.commands.doctor:doctor", "What this host has and lacks."),
        "config": Lazy("rave_cli.commands.config:config", "Settings and where they come from."),
        "completion": Lazy("rave_cli.commands.completion:completion", "Shell completion script."),
    },
    epilog="Start here: rave up --profile demo --base debian",
)
@click.version_option(__version__, "-V", "--version", prog_name="rave")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("-v", "--verbose", is_flag=True, help="Say more (also DEBUG=1).")
@click.option("-q", "--quiet", is_flag=True, help="Say only results, warnings and errors.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False),
    help="Configuration file (TOML) instead of $XDG_CONFIG_HOME/rave/config.toml.",
)
@click.pass_context
def cli(
    ctx: click.Context, as_json: bool, verbose: bool, quiet: bool, config_file: str | None
) -> None:
    """Turn a profile into a running, secured, proven virtual machine.

    \b
    profile --build--> image --launch--> machine --install--> secrets --check--> transcript
    """
    from pathlib import Path

    from rave_cli import settings
    from rave_cli.options import App
    from rave_cli.show import Show

    loaded = settings.load(Path(config_file) if config_file else None)
    ctx.obj = App(Show(as_json, quiet, verbose or loaded.debug), loaded)
    if ctx.obj.show.verbose:
        ctx.obj.show.log()


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "list-profiles": Lazy(
            "rave_cli.commands.vm.list_profiles:list_profiles", "The profiles of the flake."
        ),
        "build-image": Lazy(
            "rave_cli.commands.vm.build_image:build_image", "Build a profile's image."
        ),
        "lock-closure": Lazy(
            "rave_cli.commands.vm.lock_closure:lock_closure", "Lock a profile's Debian packages."
        ),
        "launch-local": Lazy(
            "rave_cli.commands.vm.launch_local:launch_local", "Create and start a machine."
        ),
        "create": Lazy("rave_cli.commands.vm.create:create", "Make a machine from an image."),
        "start": Lazy(
            "rave_cli.commands.vm.start:start", "Start machines and wait until they are ready."
        ),
        "stop": Lazy("rave_cli.commands.vm.stop:stop", "Stop machines."),
        "restart": Lazy("rave_cli.commands.vm.restart:restart", "Stop machines and start them."),
        "suspend": Lazy("rave_cli.commands.vm.suspend:suspend", "Save machines to disk."),
        "resume": Lazy("rave_cli.commands.vm.resume:resume", "Let suspended machines go on."),
        "wait": Lazy("rave_cli.commands.vm.wait:wait", "Wait for a stage or state of a machine."),
        "status": Lazy("rave_cli.commands.vm.status:status", "What machines are doing."),
        "watch": Lazy("rave_cli.commands.vm.watch:watch", "Each change of what machines do."),
        "list": Lazy("rave_cli.commands.vm.list:list_", "All machines."),
        "ssh": Lazy("rave_cli.commands.vm.ssh:ssh", "Log in to a machine."),
        "ssh-config": Lazy(
            "rave_cli.commands.vm.ssh_config:ssh_config", "How OpenSSH reaches machines."
        ),
        "exec": Lazy("rave_cli.commands.vm.exec:exec_", "Run one command in a machine."),
        "cp": Lazy("rave_cli.commands.vm.cp:cp", "Copy files into a machine or out of it."),
        "forward": Lazy("rave_cli.app:forward", "Ports of this host that lead into a machine."),
        "open": Lazy("rave_cli.commands.vm.open:open_", "The web pages of a machine."),
        "logs": Lazy("rave_cli.commands.vm.logs:logs", "The console or journal of a machine."),
        "console": Lazy(
            "rave_cli.commands.vm.console:console", "The serial console of a machine, live."
        ),
        "snapshot": Lazy("rave_cli.app:snapshot", "Keep a machine as it is, and go back to that."),
        "clone": Lazy(
            "rave_cli.commands.vm.clone:clone", "A machine with a copy of another's disk."
        ),
        "template": Lazy("rave_cli.app:template", "Booted machines that others start from."),
        "set": Lazy("rave_cli.commands.vm.set:set_", "Change a machine's memory, CPUs or disk."),
        "rename": Lazy("rave_cli.commands.vm.rename:rename", "Give a machine another name."),
        "protect": Lazy("rave_cli.commands.vm.protect:protect", "Keep machines from deletion."),
        "unprotect": Lazy("rave_cli.commands.vm.unprotect:unprotect", "Lift that again."),
        "delete": Lazy("rave_cli.commands.vm.delete:delete", "Delete machines and their disks."),
        "debug-bundle": Lazy(
            "rave_cli.commands.vm.debug_bundle:debug_bundle", "What is known of a machine, packed."
        ),
        "prune": Lazy("rave_cli.commands.vm.prune:prune", "Remove what dead machines left."),
    },
)
def vm() -> None:
    """Images and machines."""


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "sbom": Lazy("rave_cli.commands.image.sbom:sbom", "Print an image's bill of materials."),
    },
)
def image() -> None:
    """What images are made of."""


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "add": Lazy("rave_cli.commands.vm.forward.add:add", "Let a port lead into a machine."),
        "remove": Lazy("rave_cli.commands.vm.forward.remove:remove", "Take it away again."),
        "list": Lazy("rave_cli.commands.vm.forward.list:list_", "The ports of a machine."),
    },
)
def forward() -> None:
    """Ports of this host that lead into a running machine."""


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "create": Lazy("rave_cli.commands.vm.snapshot.create:create", "Take a snapshot."),
        "list": Lazy("rave_cli.commands.vm.snapshot.list:list_", "The snapshots of a machine."),
        "restore": Lazy(
            "rave_cli.commands.vm.snapshot.restore:restore", "Put a machine back to a snapshot."
        ),
        "delete": Lazy("rave_cli.commands.vm.snapshot.delete:delete", "Delete a snapshot."),
    },
)
def snapshot() -> None:
    """Keep a machine as it is now, disk and memory, and go back to that."""


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "create": Lazy("rave_cli.commands.vm.template.create:create", "Make a template."),
        "list": Lazy("rave_cli.commands.vm.template.list:list_", "The templates that there are."),
        "delete": Lazy("rave_cli.commands.vm.template.delete:delete", "Delete a template."),
    },
)
def template() -> None:
    """Make, list and delete booted machines that others are started from."""


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "init": Lazy(
            "rave_cli.commands.secrets.init:init",
            "Make the age identity, the policy and the secrets.",
        ),
        "edit": Lazy("rave_cli.commands.secrets.edit:edit", "Change the secrets in your editor."),
        "rotate": Lazy(
            "rave_cli.commands.secrets.rotate:rotate", "Give secrets new values in the file."
        ),
        "validate": Lazy(
            "rave_cli.commands.secrets.validate:validate",
            "Check the file against policy and catalog.",
        ),
        "list": Lazy(
            "rave_cli.commands.secrets.list:list_", "Every secret, and whether the file has it."
        ),
        "install": Lazy(
            "rave_cli.commands.secrets.install:install", "Give a machine the secrets it needs."
        ),
    },
)
def secrets() -> None:
    """Make, check and change the SOPS secrets file, and install it in a machine.

    Values are never shown. Recipients come from the `.sops.yaml` beside the file (or above it).
    """


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "add": Lazy("rave_cli.commands.user.add:add", "Make an account."),
        "list": Lazy("rave_cli.commands.user.list:list_", "The accounts of a machine."),
        "show": Lazy("rave_cli.commands.user.show:show", "One account."),
        "disable": Lazy("rave_cli.commands.user.disable:disable", "Keep somebody out."),
        "enable": Lazy("rave_cli.commands.user.enable:enable", "Let somebody in again."),
        "delete": Lazy("rave_cli.commands.user.delete:delete", "Delete an account."),
        "reset-password": Lazy(
            "rave_cli.commands.user.reset_password:reset_password", "A new one-time password."
        ),
        "groups": Lazy("rave_cli.commands.user.groups:groups", "The groups of an account."),
    },
)
def user() -> None:
    """Accounts of people: who may sign in to the services of a running machine.

    Every change is written down in the machine, in /var/log/rave/accounts.log, with who made it.
    """


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "list": Lazy("rave_cli.commands.events.list:list_", "The newest of a machine."),
        "show": Lazy("rave_cli.commands.events.show:show", "One, with what the forge sent."),
        "dead": Lazy("rave_cli.commands.events.dead:dead", "Those that the stream refuses."),
        "replay": Lazy("rave_cli.commands.events.replay:replay", "Hand events over again."),
    },
)
def events() -> None:
    """What forges told a running machine by webhooks, and what became of it.

    That events are handed over again is written down in the machine, in /var/log/rave/events.log.
    """


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "clients": Lazy("rave_cli.commands.oauth.clients:clients", "Those of a machine."),
        "show": Lazy("rave_cli.commands.oauth.show:show", "One of them."),
        "rotate": Lazy("rave_cli.commands.oauth.rotate:rotate", "Give one a new secret."),
    },
)
def oauth() -> None:
    """The services of a machine to which people sign in, as clients of its single sign-on."""


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "show": Lazy("rave_cli.commands.audit.show:show", "The latest commands."),
        "verify": Lazy("rave_cli.commands.audit.verify:verify", "Whether anything was changed."),
    },
)
def audit() -> None:
    """What was done to machines, secrets and accounts through rave on this host, and by whom.

    Each line of the log carries the sha256 of the one before.
    """


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "run": Lazy("rave_cli.commands.smoke.run:run", "Check a machine and sign what was found."),
        "verify": Lazy(
            "rave_cli.commands.smoke.verify:verify", "Verify a transcript and all its files."
        ),
        "list": Lazy(
            "rave_cli.commands.smoke.list:list_",
            "Every check of a profile, or the runs there have been.",
        ),
    },
)
def smoke() -> None:
    """Check a machine from inside and outside, and prove it with a signed transcript."""


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "serve": Lazy("rave_cli.commands.pool.serve:serve", "Run the jobs of the pool."),
        "submit": Lazy("rave_cli.commands.pool.submit:submit", "Submit a command as a job."),
        "run": Lazy("rave_cli.commands.pool.run:run", "Submit a command and follow it."),
        "list": Lazy("rave_cli.commands.pool.list:list_", "The jobs that there are."),
        "show": Lazy("rave_cli.commands.pool.show:show", "All that is known of a job."),
        "logs": Lazy("rave_cli.commands.pool.logs:logs", "What a job printed."),
        "cancel": Lazy("rave_cli.commands.pool.cancel:cancel", "Cancel a job."),
        "artifacts": Lazy("rave_cli.commands.pool.artifacts:artifacts", "What a job left."),
        "explain": Lazy("rave_cli.commands.pool.explain:explain", "Why a job waits."),
        "status": Lazy("rave_cli.commands.pool.status:status", "How the pool stands."),
        "retry": Lazy("rave_cli.commands.pool.retry:retry", "Submit jobs again."),
        "dead": Lazy("rave_cli.commands.pool.dead:dead", "Jobs that were given up."),
        "drain": Lazy("rave_cli.commands.pool.drain:drain", "Let no job begin any more."),
        "scale": Lazy("rave_cli.commands.pool.scale:scale", "How many jobs run at a time."),
        "bench": Lazy("rave_cli.commands.pool.bench:bench", "Measure it, or its crash matrix."),
        "verify": Lazy("rave_cli.commands.pool.verify:verify", "Verify the proof of a job."),
    },
)
def pool() -> None:
    """Run jobs, each in a machine of its own that is made for it and deleted afterwards."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run rave as a process: every foreseeable fault ends in one message and its exit code."""
    streams.prepare()
    with signals.handled():
        try:
            code = _run(argv)
            # What comes from here on changes nothing of what was done and said.
            signals.ignore()
        except signals.Interrupted as late:
            signals.ignore()
            code = 128 + late.number
    sys.exit(code)


def _run(argv: Sequence[str] | None) -> int:
    """Run rave and return its exit code; whatever is foreseeable has been said by then."""
    try:
        status = cli.main(args=argv, standalone_mode=False)
        streams.finish()
        code = status if isinstance(status, int) else int(ExitCode.OK)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        code = _report_usage(error)
    except (click.Abort, KeyboardInterrupt) as error:
        code = _report_end(error)
    except streams.ReaderLeftError:
        code = ExitCode.OK
    except RaveError as error:
        code = _report(error)
    except OSError as error:
        if error.errno is None:
            raise
        # Click says something of its own about a signal, which fails at a terminal that is gone.
        ended = signals.interruption(error)
        code = _report_end(ended) if ended else _report(_fault(error))
    return code


def _speaker() -> Show:
    """Return how this invocation talks, if it never came to the point of saying so."""
    from rave_cli.show import Show

    return Show(as_json="--json" in sys.argv)


def _report(error: RaveError) -> int:
    """Show an error; one of the clean-up after a signal ends us as the signal does."""
    ended = signals.interruption(error)
    if ended is not None:
        error.exit_code = ExitCode(128 + ended.number)
    _speaker().error(error)
    return error.exit_code


def _report_usage(error: click.ClickException) -> int:
    """Show Click's own message, and the JSON document where one is expected."""
    words = io.StringIO()
    error.show(words)
    for line in words.getvalue().splitlines():
        _speaker().note(line)
    _speaker().failure({"error": error.format_message(), "exitCode": error.exit_code})
    return error.exit_code


def _report_end(error: BaseException) -> int:
    """Say that a signal ended the command, or the end of the answers to its questions."""
    ended = signals.interruption(error) or signals.Interrupted(signal.SIGINT)
    told = "interrupted" if ended.number == signal.SIGINT else f"ended by {ended.number.name}"
    code = 128 + ended.number
    _speaker().note(told)
    _speaker().failure({"error": told, "exitCode": code, **ended.data})
    return code


def _fault(error: OSError) -> RaveError:
    """Describe a fault that no command foresaw: of standard output, or of some file."""
    from rave_cli.paths import os_fault

    try:
        streams.finish()
    except RaveError as fault:
        return fault
    return os_fault(error)
