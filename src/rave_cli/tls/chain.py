"""What a certificate says, and whether one of somebody's own can be shown for a host."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from rave_cli.errors import ExitCode, RaveError
from rave_cli.tls.authority import Issued
from rave_cli.tls.making import private_pem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

# As nginx and its clients of today take them (CA/Browser Forum, Baseline Requirements, 6.1.5).
SHORTEST_RSA = 2048


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says: of the first in a chain, the server's own."""

    issuer: str
    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    fingerprint: str

    def days(self, now: datetime) -> int:
        """Return the whole days that are left; negative once it has ended."""
        return (self.ends - now).days

    def document(self, now: datetime) -> dict[str, Any]:
        """What `--json` shows."""
        return {
            "issuer": self.issuer,
            "names": list(self.names),
            "notBefore": self.begins.isoformat(),
            "notAfter": self.ends.isoformat(),
            "daysLeft": self.days(now),
            "sha256": self.fingerprint,
        }


def facts(pem: str) -> CertificateFacts:
    """Return what the first certificate of a text in PEM says.

    Raises:
        ValueError: there is none.
    """
    return facts_of(x509.load_pem_x509_certificate(pem.encode()))


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """Return what a certificate says."""
    return CertificateFacts(
        issuer=certificate.issuer.rfc4514_string(),
        names=names_of(certificate),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses that a certificate is for; the subject's count no more
    (RFC 9525, 2).
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def covers(names: Sequence[str], host: str) -> bool:
    """Return whether a certificate for these names is one for a host; `*` is one whole label, the
    first (RFC 9525, 6.3).
    """
    below = host.partition(".")[2]
    return any(name.lower() in (host, f"*.{below}") for name in names)


def own(
    chain: bytes, key: bytes, hosts: Sequence[str], *, now: datetime, places: tuple[str, str]
) -> Issued:
    """Return somebody's own certificate with its key, if it can be shown under these names.

    Args:
        chain: in PEM, the server's own first, each followed by the one that issued it.
        key: in PEM, without a passphrase.
        hosts: the names it must be for.
        now: the moment at which it must be valid.
        places: where chain and key come from, for messages.

    Raises:
        RaveError: SECRETS if the key cannot be used, or is of another certificate; VERIFICATION if
            the certificate has ended or not begun, is for other names, or the chain is none.
    """
    place, key_place = places
    certificates = _certificates(chain, place)
    first = certificates[0]
    private = _key(key, key_place)
    if _public(private.public_key()) != _public(first.public_key()):
        raise RaveError(
            f"the key in {key_place} is not the one of the certificate in {place}",
            hint=f"openssl x509 -noout -pubkey -in {place}; openssl pkey -pubout -in {key_place}"
            "   (they must be the same)",
            exit_code=ExitCode.SECRETS,
        )
    _check_time(first, now, place)
    _check_names(first, hosts, place)
    _check_order(certificates, place)
    text = "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)
    return Issued(text, private_pem(private))


def _certificates(chain: bytes, place: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise RaveError(
            f"{place} holds no certificate in PEM",
            hint=f"openssl x509 -inform DER -in {place} -out ANOTHER   (if it is in DER)",
            exit_code=ExitCode.VERIFICATION,
        ) from error


def _key(data: bytes, place: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(data, None)
    except TypeError as error:
        raise RaveError(
            f"the key in {place} has a passphrase, which nobody could type at a boot",
            hint=f"openssl pkey -in {place} | rave tls install NAME --cert FILE --key -",
            exit_code=ExitCode.SECRETS,
        ) from error
    except ValueError as error:
        raise RaveError(
            f"{place} holds no private key in PEM",
            hint=f"openssl pkey -inform DER -in {place} | rave tls install NAME --cert FILE --key -"
            "   (if it is in DER)",
            exit_code=ExitCode.SECRETS,
        ) from error
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= SHORTEST_RSA:
        return key
    raise RaveError(
        f"the key in {place} is neither an EC key nor an RSA key of {SHORTEST_RSA} bits or more",
        hint="openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256   (makes one)",
        exit_code=ExitCode.SECRETS,
    )


def _check_time(certificate: x509.Certificate, now: datetime, place: str) -> None:
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if ends <= now:
        raise _refused(f"the certificate in {place} ended on {ends:%Y-%m-%d}", "renew it first")
    if begins > now:
        hint = "wait until then; date   (or is this host's clock wrong?)"
        raise _refused(f"the certificate in {place} begins on {begins:%Y-%m-%d}", hint)


def _check_names(certificate: x509.Certificate, hosts: Sequence[str], place: str) -> None:
    names = names_of(certificate)
    missing = [host for host in hosts if not covers(names, host)]
    if missing:
        raise _refused(
            f"the certificate in {place} is for {', '.join(names) or 'no name'}, not for"
            f" {', '.join(missing)}",
            f"have one issued for {hosts[0]} and *.{hosts[0]}",
        )


def _check_order(certificates: Sequence[x509.Certificate], place: str) -> None:
    for number, (issued, issuer) in enumerate(pairwise(certificates), 1):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise _refused(
                f"certificate {number + 1} in {place} did not issue certificate {number}",
                "put the server's own first, then the one that issued it, and so on",
            ) from error


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _refused(message: str, hint: str) -> RaveError:
    return RaveError(message, hint=hint, exit_code=ExitCode.VERIFICATION)
