"""A place that is reached over SFTP: its host key is pinned, and a key is all that is shown.

Source: draft-ietf-secsh-filexfer-02, the version that OpenSSH has, and its PROTOCOL file
(posix-rename@openssh.com).
"""

from __future__ import annotations

import io
import posixpath
import secrets
import socket
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rave_cli import signals
from rave_cli.backups.away import store
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.backups.away.place import AwayPlace

# Where an object is while it is written, under a name that no other connection has: somebody may
# copy the same folder from another host. What is older than LEFT seconds is of one that was ended.
PARTIAL = "partial"
LEFT = 86400.0
# Folders below the place, of which the engine has no more than three levels.
DEEPEST = 4
MOST_NAMES = 2_000_000
# What the library says of a channel that the server has closed.
CLOSED = "Socket is closed"

_RSA = ("rsa-sha2-512", "rsa-sha2-256")


@contextmanager
def opened(place: AwayPlace) -> Iterator[SftpStore]:
    """Log in to a place.

    Raises:
        RaveError: NOT_READY if nobody answers; VERIFICATION if it shows another host key; SECRETS
            if it does not accept ours; HOST if it has no SFTP or no such folder can be made.
    """
    try:
        connection = socket.create_connection((place.host, place.port), store.CONNECTS)
    except OSError as error:
        raise store.unreachable(place, str(error)) from error
    begun: list[paramiko.Transport] = []
    try:
        yield SftpStore(place, signals.apart(lambda: _logged_in(place, connection, begun)))
    finally:
        with signals.held():
            for transport in begun:
                transport.close()
            connection.close()


def _logged_in(
    place: AwayPlace, connection: socket.socket, begun: list[paramiko.Transport]
) -> paramiko.SFTPClient:
    """Log in; what has to be closed again is in `begun` as soon as it is there."""
    with _telling(place):
        transport = paramiko.Transport(connection)
        begun.append(transport)
        transport.banner_timeout = transport.auth_timeout = store.CONNECTS
        _greet(place, transport)
        return _client(place, transport)


def _greet(place: AwayPlace, transport: paramiko.Transport) -> None:
    kind, blob = place.host_key()
    transport.get_security_options().key_types = _RSA if kind == "ssh-rsa" else (kind,)
    try:
        transport.start_client(timeout=store.CONNECTS)
    except paramiko.SSHException as error:
        if "no acceptable host key" not in str(error):
            raise
        raise _changed(place, f"it has no {kind} key") from error
    shown = transport.get_remote_server_key()
    if shown.asbytes() != blob:
        raise _changed(place, f"it shows {shown.get_name()} {shown.get_base64()}")
    pem = Ed25519PrivateKey.from_private_bytes(place.seed()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    try:
        transport.auth_publickey(
            place.user, paramiko.Ed25519Key(file_obj=io.StringIO(pem.decode()))
        )
    except paramiko.AuthenticationException as error:
        raise store.not_let_in(place, str(error) or "it does not accept the key") from error


def _client(place: AwayPlace, transport: paramiko.Transport) -> paramiko.SFTPClient:
    channel = transport.open_session(timeout=store.CONNECTS)
    # Before it is asked for its version: some take a connection and say nothing.
    channel.settimeout(store.ANSWERS)
    try:
        channel.invoke_subsystem("sftp")
        return paramiko.SFTPClient(channel)
    except TimeoutError:
        raise
    except (paramiko.SSHException, EOFError) as error:
        raise _no_sftp(place) from error


def _no_sftp(place: AwayPlace) -> RaveError:
    return RaveError(
        f"{place} lets us in and offers no SFTP",
        hint=f"sftp -P {place.port} {place.user}@{place.host}; its sshd needs Subsystem sftp",
        exit_code=ExitCode.HOST,
    )


def _changed(place: AwayPlace, why: str) -> RaveError:
    return RaveError(
        f"{place} is not the server that was pinned: {why}",
        hint="ask whoever runs it; if its key was changed on purpose: rave secrets edit"
        "   (backup-copy: host-key)",
        exit_code=ExitCode.VERIFICATION,
    )


@contextmanager
def _telling(place: AwayPlace, name: str = "") -> Iterator[None]:
    """Turn what the library raises into what it means for whoever reads it."""
    try:
        yield
    except RaveError:
        raise
    except FileNotFoundError as error:
        raise store.missing(place, name) from error
    except (EOFError, paramiko.SSHException, TimeoutError, ConnectionError) as error:
        why = str(error) or "it ended the connection, or said nothing for a minute"
        raise store.unreachable(place, why) from error
    except OSError as error:
        if CLOSED in str(error):
            raise store.unreachable(place, "it ended the connection") from error
        # A server says no more of a full disk than that it failed.
        raise store.not_taken(place, name or "a login", str(error) or "no reason") from error


@dataclass(frozen=True)
class SftpStore:
    """The objects of a place, as files below its folder."""

    place: AwayPlace
    client: paramiko.SFTPClient
    seen: set[str] = field(default_factory=set)
    own: str = field(default_factory=lambda: secrets.token_hex(4))

    def listing(self) -> dict[str, int]:
        """Return what is there."""
        found: dict[str, int] = {}
        with _telling(self.place, self.place.folder):
            self._list("", found, 0)
        found.pop(PARTIAL, None)
        return found

    def _list(self, folder: str, found: dict[str, int], depth: int) -> None:
        try:
            entries = self.client.listdir_attr(self._path(folder))
        except FileNotFoundError:
            return
        for entry in entries:
            name = posixpath.join(folder, entry.filename)
            if stat.S_ISDIR(entry.st_mode or 0):
                if depth < DEEPEST and name != PARTIAL:
                    self._list(name, found, depth + 1)
            elif stat.S_ISREG(entry.st_mode or 0) and len(found) < MOST_NAMES:
                found[name] = entry.st_size or 0

    def put(self, name: str, data: bytes) -> None:
        """Write an object: beside its place, and renamed when all of it is there."""
        part = posixpath.join(PARTIAL, f"{name.replace('/', '-')}-{self.own}")
        with _telling(self.place, name):
            if self._path(PARTIAL) not in self.seen:
                self._make(self._path(PARTIAL))
                self._sweep()
            try:
                self.client.putfo(io.BytesIO(data), self._path(part), len(data))
            except OSError as error:
                if not isinstance(error, TimeoutError | ConnectionError):
                    with suppress(OSError, EOFError, paramiko.SSHException):
                        self.client.remove(self._path(part))
                raise
            self._make(posixpath.dirname(self._path(name)))
            self.client.posix_rename(self._path(part), self._path(name))

    def get(self, name: str) -> bytes:
        """Return an object."""
        with _telling(self.place, name), self.client.open(self._path(name), "rb") as source:
            size = source.stat().st_size or 0
            if size > store.LARGEST:
                raise store.not_taken(self.place, name, f"it has {size} bytes")
            source.prefetch(size)
            return source.read(size)

    def remove(self, name: str) -> None:
        """Take an object away."""
        with _telling(self.place, name), suppress(FileNotFoundError):
            self.client.remove(self._path(name))

    def _sweep(self) -> None:
        """Take away what those that were ended have left."""
        for entry in self.client.listdir_attr(self._path(PARTIAL)):
            if time.time() - (entry.st_mtime or 0) > LEFT:
                with suppress(FileNotFoundError):
                    self.client.remove(self._path(posixpath.join(PARTIAL, entry.filename)))

    def _make(self, folder: str) -> None:
        """Make a folder with those above it, unless this connection has seen it."""
        if folder in self.seen or folder in ("", "/"):
            return
        try:
            self.client.stat(folder)
        except FileNotFoundError:
            self._make(posixpath.dirname(folder))
            self.client.mkdir(folder, 0o700)
        self.seen.add(folder)

    def _path(self, name: str) -> str:
        return posixpath.join(self.place.folder, name) if name else self.place.folder
