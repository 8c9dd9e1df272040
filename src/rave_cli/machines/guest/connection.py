"""The quickest way into a guest: its command channel, or SSH where that is not to be had."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli.machines.guest import command
from rave_cli.machines.qemu import ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session
    from rave_cli.machines.spec import Machine


@contextmanager
def connect(machine: Machine, *, terminals: bool = False) -> Iterator[CommandChannel | Session]:
    """Open a connection to a running machine over which programs can be run, with `terminals` also
    at one.

    Raises:
        RaveError: NOT_READY as `ssh.connect`, or if the command channel is another machine's.
    """
    with command.connect(machine) as channel:
        # A guest from before has none to give over the channel.
        if channel is not None and (channel.has_terminals or not terminals):
            yield channel
            return
    port = ports.ssh(machine)
    # Only now: paramiko takes longer to import than the channel to answer.
    from rave_cli.machines.guest import ssh

    with ssh.connect(machine, port=port) as session:
        yield session
