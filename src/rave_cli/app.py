"""The root command: global options, the nouns, and where errors are reported."""

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
        "vm": Lazy("rave_cli.commands.vm:vm", "Images and machines."),
        "image": Lazy("rave_cli.commands.image:image", "What images are made of, and registries."),
        "secrets": Lazy("rave_cli.commands.secrets:secrets", "SOPS/age secrets."),
        "user": Lazy("rave_cli.commands.user:user", "Who may sign in to a machine's services."),
        "oauth": Lazy("rave_cli.commands.oauth:oauth", "The services to which people sign in."),
        "backup": Lazy(
            "rave_cli.commands.backup:backup", "What machines keep, kept a second time."
        ),
        "events": Lazy(
            "rave_cli.commands.events:events", "What forges told a machine by webhooks."
        ),
        "trace": Lazy("rave_cli.commands.trace:trace", "What became of a command or a webhook."),
        "flow": Lazy("rave_cli.commands.flow:flow", "From a sentence to a merge."),
        "tls": Lazy("rave_cli.commands.tls:tls", "The certificates of machines."),
        "smoke": Lazy("rave_cli.commands.smoke:smoke", "Check a machine and prove it."),
        "pool": Lazy("rave_cli.commands.pool:pool", "Jobs, each in a new machine."),
        "audit": Lazy("rave_cli.commands.audit:audit", "Who did what through rave."),
        "bench": Lazy("rave_cli.commands.bench:bench", "What things cost on this host."),
        "doctor": Lazy("rave_cli.commands.doctor:doctor", "What this host has and lacks."),
        "prune": Lazy("rave_cli.commands.prune:prune", "Give back what can be made again."),
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
