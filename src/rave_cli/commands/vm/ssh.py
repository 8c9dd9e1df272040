"""`rave vm ssh`."""

from __future__ import annotations

import sys

import click

from rave_cli.audited import audited
from rave_cli.options import machine_argument


@click.command(context_settings={"ignore_unknown_options": True})
@machine_argument
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@audited
def ssh(name: str, arguments: tuple[str, ...]) -> None:
    """Log in to a machine with OpenSSH; its host key is checked against the pinned one.

    What stands behind the name goes to ssh: options, or a command.

    \b
    Example: rave vm ssh demo
    Example: rave vm ssh demo -- -L 9090:localhost:9090
    """
    from rave_cli import process
    from rave_cli.machines import store
    from rave_cli.machines.guest import way
    from rave_cli.machines.guest.ssh import is_banned, openssh_argv
    from rave_cli.machines.qemu import ports

    machine = store.load(name)
    port = ports.ssh(machine)
    proxy, env = way.proxy(machine) if is_banned(machine) else ((), {})
    terminal = sys.stdin.isatty()
    argv = openssh_argv(machine, port, arguments, terminal=terminal, proxy=proxy)
    process.become(argv, env=env)
