"""The way into a machine that no ban closes: a virtio-serial port that only our account can open.

To a guest all users of the host are one address, so that anybody's failed logins close its SSH port
to everybody. Behind this port the guest (rave_guest/way.py) leads to the same sshd, which asks for
the same key and shows the same host key. QEMU serves one client at a time, so it is the second way.

As a program it is a ProxyCommand of ssh_config(5).

Usage: INSTANCE=<id of the machine> way.py SOCKET
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

# Seconds for the guest to answer, which looks for somebody three times a second.
ANSWERS = 5.0
INSTANCE = "INSTANCE"
CHUNK = 1 << 16


def reach(place: str, instance: str, deadline: float) -> socket.socket | None:
    """Return a connection to a machine's sshd, or None: an older machine or image has no such way,
    or somebody else is using it.

    Args:
        place: the machine's `way_socket`.
        instance: its instance id.
        deadline: on the clock of time.monotonic().
    """
    connection = socket.socket(socket.AF_UNIX)
    word = instance.encode() + b"\n"
    until = min(deadline, time.monotonic() + ANSWERS)
    try:
        connection.settimeout(ANSWERS)
        connection.connect(place)
        connection.sendall(word)
        if _answered(connection, word, until):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _answered(connection: socket.socket, word: bytes, until: float) -> bool:
    """Return whether the word comes back in time; nothing behind it is read."""
    before = b""
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        seen = connection.recv(CHUNK, socket.MSG_PEEK)
        end = (before + seen).find(word) + len(word) - len(before)
        found = word in before + seen
        # What comes before the word was meant for whoever was here before.
        taken = connection.recv(end if found else len(seen))
        if found or not taken:
            return found
        before = (before + taken)[-len(word) :]
    return False


def proxy(machine: Machine) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the command that connects its standard input and output with a machine's sshd, and
    what it needs in its environment.
    """
    argv = (sys.executable, "-ISE", __file__, os.fspath(machine.way_socket))
    return argv, {INSTANCE: machine.spec.instance_id}


def main(place: str) -> int:
    """Connect standard input and output with a machine's sshd."""
    connection = reach(place, os.environ[INSTANCE], time.monotonic() + ANSWERS)
    if connection is None:
        sys.stderr.write(f"nobody answers at {place}; is another rave using it?\n")
        return 1
    connection.settimeout(None)
    targets = {0: connection.fileno(), connection.fileno(): 1}
    while True:
        for source in select.select(list(targets), [], [])[0]:
            data = os.read(source, CHUNK)
            if not data:
                return 0
            while data:
                data = data[os.write(targets[source], data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
