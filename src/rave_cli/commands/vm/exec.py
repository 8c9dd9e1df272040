"""`rave vm exec`."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from rave_cli.options import App

# With --json so many bytes of each stream are kept, since the document has to be held in memory.
MOST_KEPT = 8 << 20

# Seconds for a command that nobody gave a time, and for one at a terminal, where a person stays.
TIME = 600.0
TIME_AT_TERMINAL = 7 * 24 * 3600.0

# What ssh ends with for a command that has no exit status, since a signal ended it.
NO_STATUS = 255


@click.command("exec", context_settings={"ignore_unknown_options": True})
@machine_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-i", "--stdin", "with_input", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--terminal", "at_terminal", is_flag=True, help="Run it at your terminal.")
@click.option("--sudo", is_flag=True, help="Run it as root.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
    help="Time for the command (default 600; at a terminal as long as you stay).",
)  # fmt: skip
@json_option
@pass_app
@audited
def exec_(
    app: App,
    name: str,
    command: tuple[str, ...],
    *,
    with_input: bool,
    at_terminal: bool,
    sudo: bool,
    timeout: float | None,
) -> int:
    """Run one command in a machine and end with its exit status.

    Its output is passed on as it comes and byte for byte, as ssh does: a guest that you do not
    trust can act on your terminal. After --timeout, or when you interrupt it, the command is ended
    in the machine, too. With --json the first 8 MiB of each stream are kept.

    With -t the command gets a terminal, of your window's size, and every key that you press;
    Ctrl-] three times within a second ends it all the same.

    \b
    Example: rave vm exec demo -- sudo systemctl is-active nginx
    Example: rave vm exec -t --sudo demo -- bash
    """
    from rave_cli.machines import store

    if at_terminal and app.show.as_json:
        raise click.UsageError("--terminal does not go with --json.")
    machine = store.load(name)
    kept = _Kept()
    if at_terminal:
        status = _at_terminal(app, machine, command, timeout=timeout or TIME_AT_TERMINAL, sudo=sudo)
    else:
        given = sys.stdin.fileno() if with_input else None
        status = _apart(app, machine, command, kept, given, timeout=timeout or TIME, sudo=sudo)
    if status < 0:
        app.show.warning("a signal ended the command")
        status = NO_STATUS
    if kept.truncated:
        app.show.warning(f"it printed more than {MOST_KEPT} bytes; the rest is left out")
    if app.show.as_json:
        app.show.result({"exitStatus": status, **kept.document})
    return status


def _apart(
    app: App,
    machine: Machine,
    command: tuple[str, ...],
    kept: _Kept,
    given: int | None,
    *,
    timeout: float,
    sudo: bool,
) -> int:
    """Run it with its two outputs apart; return its exit status."""
    from rave_cli.errors import RaveError
    from rave_cli.machines.guest.connection import connect
    from rave_cli.signals import Interrupted

    def pass_on(stream: int, data: bytes) -> None:
        app.show.raw(data, error=stream != 1)

    take = kept.take if app.show.as_json else pass_on
    with connect(machine) as session:
        try:
            return session.stream(command, stdin=given, on_output=take, timeout=timeout, sudo=sudo)
        except (RaveError, Interrupted) as fault:
            fault.data = {"exitStatus": None, **kept.document} if app.show.as_json else {}
            raise


def _at_terminal(
    app: App, machine: Machine, command: tuple[str, ...], *, timeout: float, sudo: bool
) -> int:
    """Run it at our terminal; return its exit status."""
    from rave_cli import terminal
    from rave_cli.machines.guest.connection import connect
    from rave_cli.signals import Interrupted

    terminal.needed_for("--terminal")
    with connect(machine, terminals=True) as session:
        try:
            with terminal.raw() as lent:
                return session.stream(
                    command,
                    stdin=None,
                    on_output=lambda _stream, data: app.show.raw(data),
                    timeout=timeout,
                    sudo=sudo,
                    terminal=lent,
                )
        except terminal.LeftError:
            raise Interrupted(signal.SIGINT) from None


class _Kept:
    """The beginning of what a command prints."""

    def __init__(self) -> None:
        self.streams = {1: bytearray(), 2: bytearray()}
        self.truncated = False

    def take(self, stream: int, data: bytes) -> None:
        """Keep a piece, as far as there is room for it."""
        room = MOST_KEPT - len(self.streams[stream])
        self.streams[stream] += data[:room]
        self.truncated |= len(data) > room

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {
            "stdout": self.streams[1].decode(errors="replace"),
            "stderr": self.streams[2].decode(errors="replace"),
            "truncated": self.truncated,
        }
