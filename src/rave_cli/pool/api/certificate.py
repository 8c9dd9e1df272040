"""The certificate of an API on the network: one that is given, or one of our own making.

Our own is signed by itself: whoever asks trusts that one file, and lets it vouch for no other name
(name constraints, RFC 5280, 4.2.1.10). It is made anew before it ends.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.database import folder
from rave_cli.tls import making

if TYPE_CHECKING:
    from pathlib import Path

# Days. What browsers accept: CA/Browser Forum, Baseline Requirements 6.3.2.
LASTS = 397
MADE_ANEW = 30


@dataclass(frozen=True)
class ServerCertificate:
    """The files of a certificate and of its key, and whether they were made just now."""

    certificate: Path
    key: Path
    made: bool = False


def given(certificate: Path, key: Path) -> ServerCertificate:
    """Return a certificate that somebody has, once its key is known to be private.

    Raises:
        RaveError: SECRETS if others may read the key; HOST if either cannot be read.
    """
    paths.read_trusted(certificate)
    paths.read_private(key)
    return ServerCertificate(certificate, key)


def own(host: str) -> ServerCertificate:
    """Return the certificate of our own for an address, made if there is none that will do.

    Raises:
        RaveError: HOST if it cannot be kept; SECRETS if others may read its key.
    """
    place = paths.private_dir(paths.private_dir(folder()) / "tls")
    certificate, key = place / "cert.pem", place / "key.pem"
    names = _names(host)
    if key.exists() and _good(certificate, names):
        paths.read_private(key)
        return ServerCertificate(certificate, key)
    made = making.make(
        making.called("rave pool"),
        now=datetime.now(UTC),
        life=timedelta(days=LASTS),
        names=names,
        vouches_for=making.constraints_of(names),
    )
    paths.atomic_write(key, making.private_pem(made.key).encode(), mode=0o600)
    paths.atomic_write(certificate, made.pem.encode(), mode=0o644)
    return ServerCertificate(certificate, key, made=True)


def _names(host: str) -> list[x509.GeneralName]:
    words = {"localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn(), host}
    return making.names_of(sorted(words))


def _good(certificate: Path, names: list[x509.GeneralName]) -> bool:
    """Return whether a certificate is for all these names, for long enough."""
    try:
        found = x509.load_pem_x509_certificate(paths.read_trusted(certificate))
        known = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        # One of before these were there is made anew.
        found.extensions.get_extension_for_class(x509.NameConstraints)
    except (RaveError, ValueError, x509.ExtensionNotFound):
        return False
    ends = found.not_valid_after_utc
    return set(names) <= set(known) and ends > datetime.now(UTC) + timedelta(days=MADE_ANEW)


def address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[IPv6]:PORT`.

    Raises:
        RaveError: USAGE if it is none.
    """
    host, there, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not there or not host or not port.isdecimal() or int(port) > 65535:
        raise RaveError(
            f"{text!r} is no address to listen at",
            hint="--listen 127.0.0.1:8443, or [::]:8443",
            exit_code=ExitCode.USAGE,
        )
    return host, int(port)
