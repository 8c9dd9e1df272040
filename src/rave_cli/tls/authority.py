"""rave's own certificate authorities: on this host, of this login, one for each domain.

An authority can issue for its domain and for loopback, and nothing else: whoever trusts it lets it
vouch for no other site (name constraints, RFC 5280, 4.2.1.10). Its key leaves this host never.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.tls import making
from rave_cli.tls.making import KeyedCertificate, private_pem

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "localhost"
# Of a template, which nobody opens (RFC 6761, 6.4).
NOBODY = ".invalid"
LOOPBACK = ("127.0.0.0/8", "::1/128")

LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)

PRIVATE, PUBLIC = "authority.pem", "authority.crt"


@dataclass(frozen=True)
class Authority(KeyedCertificate):
    """An authority with its key."""

    domain: str


@dataclass(frozen=True)
class Issued:
    """A key and the chain of its certificate, the server's own first, both as PEM."""

    chain: str
    key: str = field(repr=False)


def domain_of(host: str) -> str:
    """Return the domain whose authority issues for a host: all of `localhost`, else that name."""
    return LOCAL if host == LOCAL or host.endswith(f".{LOCAL}") else host


def folder(domain: str) -> Path:
    """Return where the authority of a domain lies."""
    return paths.config_dir() / "tls" / domain


def certificate_file(domain: str) -> Path:
    """Return the certificate of the authority of a domain: what others are to trust."""
    return folder(domain) / PUBLIC


def of(host: str, *, now: datetime | None = None) -> Authority:
    """Return the authority that issues for a host, made on first use.

    One that ends before what it would issue now is replaced; who trusted it must trust the new one.

    Raises:
        RaveError: SECRETS if its key must not be used (another owner, readable by others, no key of
            this authority); HOST if a file cannot be read or written.
    """
    moment = now or datetime.now(UTC)
    domain = domain_of(host)
    if host.endswith(NOBODY):
        return make(domain, now=moment)
    place = paths.private_dir(folder(domain))
    with paths.lock(place / ".lock", busy=None):
        if os.path.lexists(place / PRIVATE):
            found = load(domain)
            if found.certificate.not_valid_after_utc >= moment + LEAF_LIFE:
                _publish(found)
                return found
        return _keep(make(domain, now=moment))


def make(domain: str, *, now: datetime) -> Authority:
    """Return a new authority for a domain; nothing is written."""
    # A name of its own, so that nobody takes it for the one that it replaces.
    subject = making.called(f"rave authority {secrets.token_hex(4)}", "rave")
    own = making.constraints_of(making.names_of((domain, LOCAL)), LOOPBACK)
    made = making.make(subject, now=now, life=LIFE, vouches_for=own)
    return Authority(made.certificate, made.key, domain)


def load(domain: str) -> Authority:
    """Read the authority of a domain, which must exist.

    Raises:
        RaveError: as `of`.
    """
    place = folder(domain) / PRIVATE
    data = paths.read_private(place)
    try:
        key = load_pem_private_key(data, None)
        certificate = x509.load_pem_x509_certificate(data)
    except (ValueError, TypeError) as error:
        raise _unusable(place, "holds no key and certificate in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unusable(place, "holds no EC key")
    if key.public_key() != certificate.public_key():
        raise _unusable(place, "holds a key that is not the one of its certificate")
    if domain not in permitted(certificate):
        raise _unusable(place, f"is not the authority of {domain}")
    return Authority(certificate, key, domain)


def permitted(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the domains that a certificate is constrained to; none if it is not constrained."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    names = found.permitted_subtrees or []
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName))


def issue(authority: Authority, host: str, *, now: datetime) -> Issued:
    """Return a new key and certificate for a host, the names below it, and loopback."""
    made = making.make(
        making.called("rave machine"),
        now=now,
        life=LEAF_LIFE,
        names=making.names_of((LOCAL, host, f"*.{host}", "127.0.0.1")),
        issuer=authority,
    )
    return Issued(made.pem + authority.pem, private_pem(made.key))


def _keep(authority: Authority) -> Authority:
    data = private_pem(authority.key) + authority.pem
    paths.atomic_write(folder(authority.domain) / PRIVATE, data.encode(), mode=0o600)
    _publish(authority)
    return authority


def _publish(authority: Authority) -> None:
    place = certificate_file(authority.domain)
    if not place.exists() or paths.read_trusted(place) != authority.pem.encode():
        paths.atomic_write(place, authority.pem.encode())


def _unusable(place: Path, why: str) -> RaveError:
    return RaveError(
        f"rave's authority {place} {why}",
        hint=f"put it back from a copy; or mv {place} ELSEWHERE, and rave makes a new authority,"
        " which is to be trusted anew",
        exit_code=ExitCode.SECRETS,
    )
