"""SSH to a machine: pinned host key, key login only, one kept connection.

The host key was made before the machine first booted, so an unknown or changed key is always an
error. curve25519 and ed25519 only: a hybrid post-quantum exchange costs a TCG guest most of a
second.
"""

from __future__ import annotations

import io
import logging
import math
import os
import shlex
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import paramiko

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import way
from rave_cli.machines.guest.session import Session
from rave_cli.machines.guest.stages import ban, read_events
from rave_cli.machines.qemu import ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rave_cli.machines.spec import Machine

USER = "rave"

# paramiko logs every broken connection with a traceback; without a handler Python would print it.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# Seconds of silence after which the other way is tried. A busy TCG guest needs some for a banner.
SILENT = 10.0

# QEMU accepts every connection; whether the guest hears of it is another question.
SILENCE = "connected, but no banner came; failed logins close it to this host for a while"


class HostKeyChangedError(RaveError):
    """The machine shows another host key than the one it was given."""


class LoginRefusedError(RaveError):
    """The machine does not accept the key it was given."""


class BannedError(RaveError):
    """The machine's firewall drops what comes from this host, after failed logins."""

    reason = "banned"


@contextmanager
def connect(
    machine: Machine, *, port: int | None = None, timeout: float = 30.0
) -> Iterator[Session]:
    """Log in to a running machine.

    Args:
        machine: the machine; it need not have been started by this process.
        port: the host port that leads to the guest's sshd; None asks QEMU.
        timeout: seconds for banner, key exchange and login together.

    Raises:
        BannedError: NOT_READY if the machine's firewall drops what comes from this host.
        RaveError: NOT_READY if the machine does not run, its host key is not the pinned one, it
            refuses the login key, or time runs out.
    """
    if port is None:
        port = ports.ssh(machine)
    deadline = time.monotonic() + timeout
    connection = reach(machine, port, deadline)
    with login(machine, connection, deadline) as session:
        yield session


def reach(
    machine: Machine, port: int, deadline: float, *, ended: Callable[[], bool] = lambda: False
) -> socket.socket:
    """Return a connection to a machine's sshd: through its port, or where that is closed to us
    through the way that no ban closes.

    Raises:
        BannedError: NOT_READY if the guest bans this host and there is no such way.
        RaveError: NOT_READY if sshd cannot be reached before `deadline` (time.monotonic()), or
            before `ended` says that there is nobody left to be reached.
    """
    patience = min(deadline, time.monotonic() + SILENT) if machine.way_socket.exists() else deadline
    try:
        return await_banner(machine, port, patience, ended=ended)
    except RaveError as error:
        place = os.fspath(machine.way_socket)
        connection = way.reach(place, machine.spec.instance_id, deadline)
        if connection is not None:
            return connection
        if isinstance(error, BannedError) or patience == deadline:
            raise
    return await_banner(machine, port, deadline, ended=ended)


def refuse_banned(machine: Machine) -> None:
    """Say so if a machine's firewall drops what comes from this host, instead of waiting in vain.

    Raises:
        BannedError: NOT_READY, with the time that is left.
    """
    found = ban(read_events(machine.stage_file), time.time())
    if found is None:
        return
    tries = f"{found.failures} failed logins" if found.failures else "failed logins"
    seconds = math.ceil(found.seconds)
    raise BannedError(
        f"machine {machine.name} bans this host for another {seconds} s, because of {tries}; to its"
        " guest all users of this host are one address",
        hint=f"try again in {seconds} s; `rave vm ssh {machine.name}` offers its own key alone,"
        " a plain ssh each key of an agent, and each of those is a failed login",
        exit_code=ExitCode.NOT_READY,
    )


def await_banner(
    machine: Machine, port: int, deadline: float, *, ended: Callable[[], bool] = lambda: False
) -> socket.socket:
    """Return a connection whose other end has sent an SSH banner, which is left unread.

    QEMU's user network accepts TCP even if no guest runs, so only the banner is a sign of life.

    Raises:
        BannedError: NOT_READY as soon as the guest tells that it bans this host.
        RaveError: NOT_READY if no banner comes before `deadline` (time.monotonic()), or before
            `ended` says that there is nobody left to send one.
    """
    cause = "no answer"
    while (left := deadline - time.monotonic()) > 0 and not ended():
        refuse_banned(machine)
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=left)
        except OSError as error:
            cause = error.strerror or str(error)
        else:
            connection.settimeout(min(left, 2.0))
            try:
                start = connection.recv(4, socket.MSG_PEEK)
            except OSError as error:
                cause = SILENCE if _timed_out(error) else str(error)
            else:
                if start.startswith(b"SSH-"[: len(start)]) and start:
                    return connection
                cause = "the connection was closed" if not start else f"it sent {start!r}"
            connection.close()
        time.sleep(min(0.05, max(0.0, left)))
    raise RaveError(
        f"machine {machine.name} shows no SSH banner on 127.0.0.1:{port}: {cause}",
        hint=f"rave vm status {machine.name}; rave vm logs {machine.name}",
        exit_code=ExitCode.NOT_READY,
    )


def _timed_out(error: OSError) -> bool:
    return isinstance(error, TimeoutError)


@contextmanager
def login(machine: Machine, connection: socket.socket, deadline: float) -> Iterator[Session]:
    """Exchange keys, check the pinned host key and log in over an existing connection.

    Raises:
        HostKeyChangedError: NOT_READY if the host key is not the pinned one.
        LoginRefusedError: NOT_READY if the guest refuses the login key.
        RaveError: NOT_READY if anything else fails or `deadline` passes.
    """
    with signals.held():
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        left = max(0.1, deadline - time.monotonic())
        signals.apart(lambda: _open(client, machine, connection, left))
        yield Session(client, machine.name)
    finally:
        with signals.held():
            connection.close()
            client.close()


def _open(
    client: paramiko.SSHClient, machine: Machine, connection: socket.socket, timeout: float
) -> None:
    where = f"rave vm logs {machine.name}"
    try:
        client.load_host_keys(str(pinned(machine)))
        client.connect(
            machine.alias,
            sock=connection,
            username=USER,
            pkey=login_key(machine),
            look_for_keys=False,
            allow_agent=False,
            timeout=timeout,
            banner_timeout=timeout,
            auth_timeout=timeout,
            channel_timeout=timeout,
            transport_factory=_transport,
        )
    except paramiko.BadHostKeyException as error:
        raise HostKeyChangedError(
            f"machine {machine.name} shows another host key than the one it was given; what answers"
            " may not be this machine",
            hint=f"rave vm stop {machine.name}; rave vm start {machine.name} hands it the key again"
            f" that {machine.known_hosts} pins",
            exit_code=ExitCode.NOT_READY,
        ) from error
    except paramiko.AuthenticationException as error:
        raise LoginRefusedError(
            f"machine {machine.name} refuses the login key it was given (user {USER})",
            hint=where,
            exit_code=ExitCode.NOT_READY,
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        if "not found in known_hosts" in str(error):
            raise HostKeyChangedError(
                f"{machine.known_hosts} does not pin a key for machine {machine.name}",
                hint=f"printf '%s ' {machine.alias} | cat - {machine.host_key}.pub"
                f" >{machine.known_hosts}",
                exit_code=ExitCode.NOT_READY,
            ) from error
        raise RaveError(
            f"SSH to machine {machine.name} failed: {error or type(error).__name__}",
            hint=where,
            exit_code=ExitCode.NOT_READY,
        ) from error


def _transport(sock: Any, /, **_options: Any) -> paramiko.Transport:  # noqa: ANN401 - paramiko's
    """Return a transport that offers only what a machine of ours speaks best."""
    transport = paramiko.Transport(sock)
    security = transport.get_security_options()
    security.kex = ("curve25519-sha256@libssh.org",)
    security.key_types = ("ssh-ed25519",)
    security.ciphers = ("aes128-gcm@openssh.com", "aes128-ctr")
    security.digests = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-256")
    return transport


def pinned(machine: Machine) -> Path:
    """Return the file that pins the machine's host key.

    Raises:
        RaveError: HOST if somebody else may have written it.
    """
    if machine.known_hosts.exists():
        paths.require_trusted(machine.known_hosts)
    return machine.known_hosts


def login_key(machine: Machine) -> paramiko.PKey:
    """Return the key that logs in to the machine.

    Raises:
        RaveError: SECRETS if others may read it; HOST if it cannot be read.
        paramiko.SSHException: if it is none.
    """
    text = paths.read_private(machine.login_key).decode(errors="replace")
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text))


def openssh_argv(
    machine: Machine,
    port: int,
    extra: Sequence[str] = (),
    *,
    terminal: bool,
    proxy: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the OpenSSH command that logs in to a machine, trusting nothing but its pinned key.

    The user's and the system's ssh_config are not read: a ProxyCommand or a wildcard there must not
    change who is trusted. OpenSSH takes the first value it gets for an option, so `extra` cannot
    loosen any of these.

    Args:
        machine: the machine.
        port: the host port that leads to its sshd.
        extra: what goes behind the host: options such as `-L`, then a command.
        terminal: whether a person can answer questions.
        proxy: a command that leads to the machine's sshd, instead of the port.

    Raises:
        RaveError: HOST if somebody else may have written which host key is pinned.
    """
    options = (
        *(f"{name}={value}" for name, value in _trusted(machine)),
        f"BatchMode={'no' if terminal else 'yes'}",
        "LogLevel=ERROR",
        *([f"ProxyCommand={shlex.join(proxy).replace('%', '%%')}"] if proxy else []),
    )
    return (
        "ssh",
        "-F", "none",
        *(word for option in options for word in ("-o", option)),
        "-p", str(port),
        f"{USER}@127.0.0.1",
        *extra,
    )  # fmt: skip


def openssh_config(machine: Machine, port: int) -> str:
    """Return a section of ssh_config(5) that leads to a machine, for programs that speak SSH by
    themselves: `ssh -F`, editors, ansible, paramiko. It trusts what `openssh_argv` trusts.

    Args:
        machine: the machine.
        port: the host port that leads to its sshd now.

    Raises:
        RaveError: HOST if somebody else may have written which host key is pinned.
    """
    options = (("HostName", "127.0.0.1"), ("Port", str(port)), ("User", USER), *_trusted(machine))
    return "\n".join(
        [f"Host {machine.name}", *(f"  {name} {value}" for name, value in options), ""]
    )


def _trusted(machine: Machine) -> tuple[tuple[str, str], ...]:
    """Return the options of ssh_config(5) that trust nothing but a machine's pinned key."""
    return (
        ("StrictHostKeyChecking", "yes"),
        ("UserKnownHostsFile", _quoted(pinned(machine))),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("HostKeyAlias", machine.alias),
        ("HostKeyAlgorithms", "ssh-ed25519"),
        ("KexAlgorithms", "curve25519-sha256,curve25519-sha256@libssh.org"),  # two names of one
        ("UpdateHostKeys", "no"),
        ("CheckHostIP", "no"),
        ("IdentitiesOnly", "yes"),
        ("IdentityFile", _quoted(machine.login_key)),
        ("IdentityAgent", "none"),
        ("PasswordAuthentication", "no"),
    )


def is_banned(machine: Machine) -> bool:
    """Return whether a machine's port is closed to us by a ban, and there is another way.

    Raises:
        BannedError: NOT_READY if there is no other way.
    """
    try:
        refuse_banned(machine)
    except BannedError:
        if not machine.way_socket.exists():
            raise
        return True
    return False


def _quoted(path: Path) -> str:
    """Return a path as ssh_config(5) reads it: in quotes, with its own percent signs doubled."""
    return '"' + str(path).replace("%", "%%") + '"'
