"""Makes certificates: an authority's, a server's that one has issued, and one that is both.

Whoever may vouch for others is held to its own names (name constraints, RFC 5280, 4.2.1.10).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

# Clocks of others may be a little behind.
EARLIER = timedelta(hours=1)


@dataclass(frozen=True)
class KeyedCertificate:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()


def make(
    subject: x509.Name,
    *,
    now: datetime,
    life: timedelta,
    names: Sequence[x509.GeneralName] = (),
    vouches_for: Sequence[x509.GeneralName] = (),
    issuer: KeyedCertificate | None = None,
) -> KeyedCertificate:
    """Return a new key and a certificate for it, which is for servers alone.

    Args:
        subject: whose it is.
        now: it is good from a little earlier on.
        life: for how long.
        names: what a server may show it under; none for an authority that is no server.
        vouches_for: for which names it may issue others; none if it may issue none.
        issuer: who issues it; None if it is signed by itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public, authority = key.public_key(), bool(vouches_for)
    by_name, by_key = (issuer.certificate.subject, issuer.key) if issuer else (subject, key)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=authority, path_length=0 if authority else None), True),
        (_usage(digital_signature=bool(names), key_cert_sign=authority), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), False),
    ]
    if names:
        extensions.append((x509.SubjectAlternativeName(names), False))
    if authority:
        extensions.append((x509.NameConstraints(vouches_for, None), True))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by_name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + life)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return KeyedCertificate(builder.sign(by_key, hashes.SHA256()), key)


def called(name: str, organization: str | None = None) -> x509.Name:
    """Return a subject. A common name has at most 64 characters, a host more: hosts are names."""
    said = [] if organization is None else [(NameOID.ORGANIZATION_NAME, organization)]
    return x509.Name(
        [x509.NameAttribute(kind, text) for kind, text in [*said, (NameOID.COMMON_NAME, name)]]
    )


def names_of(words: Iterable[str]) -> list[x509.GeneralName]:
    """Return hosts and addresses as certificates have them, each once, in order. The address of all
    addresses names none.
    """
    found: list[x509.GeneralName] = []
    for word in dict.fromkeys(words):
        try:
            address = ipaddress.ip_address(word)
        except ValueError:
            if word.isascii() and word:
                found.append(x509.DNSName(word))
        else:
            if not address.is_unspecified:
                found.append(x509.IPAddress(address))
    return found


def constraints_of(
    names: Iterable[x509.GeneralName], networks: Iterable[str] = ()
) -> list[x509.GeneralName]:
    """Return names as constraints have them, an address as a network of one, and networks."""
    return [
        *(
            x509.IPAddress(ipaddress.ip_network(name.value))
            if isinstance(name, x509.IPAddress)
            else name
            for name in names
        ),
        *(x509.IPAddress(ipaddress.ip_network(network)) for network in networks),
    ]


def private_pem(key: PrivateKeyTypes) -> str:
    """Return a private key as PEM, without a passphrase."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _usage(*, digital_signature: bool, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
