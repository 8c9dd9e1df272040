"""SSH connections of strangers: the pinned host key was seen, and nobody is logged in.

A key exchange takes an emulated guest most of a second, so those that a run needs are made ahead,
beside what comes before them. Over none is anything tried before its turn.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import paramiko

from rave_cli import signals
from rave_cli.errors import RaveError
from rave_cli.machines.guest import ssh

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

LOOPBACK = "127.0.0.1"
# Seconds that one may wait for its turn: sshd ends it after 20 (LoginGraceTime of the catalog).
FRESH = 12.0


class Knocks:
    """Connections that were made ahead and wait for their turn. Threads may share it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, paramiko.Transport]] = []
        self._lock = threading.Lock()
        self._answered = False
        self._made = threading.Event()
        self._made.set()

    def expect(self) -> None:
        """Say that some are going to be made."""
        self._made.clear()

    def make(self, machine: Machine, port: int, count: int) -> None:
        """Make `count` connections at once; what fails is left to whoever then makes its own."""

        def one(_: int) -> None:
            with suppress(RaveError, OSError, EOFError, paramiko.SSHException):
                self.put(knock(machine, port, FRESH))
                self._answered = True

        try:
            if count:
                with ThreadPoolExecutor(count) as pool:
                    list(pool.map(one, range(count)))
        finally:
            self._made.set()

    def answered(self, timeout: float) -> bool:
        """Return whether sshd answered one that was made ahead, once those under way are made;
        False after `timeout` seconds.
        """
        return self._made.wait(timeout) and self._answered

    def put(self, opened: paramiko.Transport) -> None:
        """Let a connection wait."""
        with self._lock:
            self._waiting.append((time.monotonic(), opened))

    def take(self) -> paramiko.Transport | None:
        """Return one that is still good; None if there is none."""
        with self._lock:
            while self._waiting:
                since, opened = self._waiting.pop(0)
                if opened.is_active() and time.monotonic() - since < FRESH:
                    return opened
                opened.close()
        return None

    def close(self) -> None:
        """Close those that nobody took."""
        with signals.held(), self._lock:
            for _, opened in self._waiting:
                opened.close()
            self._waiting.clear()


def knock(machine: Machine, port: int, timeout: float) -> paramiko.Transport:
    """Open an SSH connection that has seen the pinned host key.

    Args:
        machine: whose key it must be.
        port: the port of 127.0.0.1 that leads to its sshd.
        timeout: seconds for each step of it.

    Raises:
        OSError, EOFError, paramiko.SSHException: nobody answers, or with another host key.
        RaveError: HOST if the pinned key must not be trusted.
    """
    plain = socket.create_connection((LOOPBACK, port), timeout)
    opened = paramiko.Transport(plain)
    try:
        security = opened.get_security_options()
        security.kex = ("curve25519-sha256@libssh.org",)
        security.key_types = ("ssh-ed25519",)
        opened.start_client(timeout=timeout)
        require_pinned(machine, opened.get_remote_server_key())
    except BaseException:
        opened.close()
        plain.close()
        raise
    return opened


def require_pinned(machine: Machine, key: paramiko.PKey) -> None:
    """Refuse a host key that is not the machine's.

    Raises:
        paramiko.SSHException: it is not.
        RaveError: HOST if the pinned key must not be trusted.
    """
    pinned = paramiko.HostKeys(str(ssh.pinned(machine))).lookup(machine.alias)
    if pinned is None or pinned.get(key.get_name()) != key:
        raise paramiko.SSHException("the host key is not the pinned one")
