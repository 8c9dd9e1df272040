"""Values for the secrets of the catalog, made by the rule each record carries.

Nothing here reads or writes files; randomness comes from the operating system.
"""

from __future__ import annotations

import ipaddress
import secrets
import string
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from rave_cli.profiles.catalog import Secret

# Letters and digits alone need no quoting anywhere.
ALPHABET = string.ascii_letters + string.digits
CERTIFICATE_LIFE = timedelta(days=397)  # the CA/Browser Forum's limit, which browsers enforce
CERTIFICATE_NAMES = ("rave", "rave.local", "localhost", "rave.localhost", "*.rave.localhost")
CERTIFICATE_ADDRESSES = ("127.0.0.1", "::1")


def complete(
    existing: Mapping[str, str], catalog: Mapping[str, Secret], *, now: datetime | None = None
) -> dict[str, str]:
    """Return `existing` with a new value for each secret of the catalog that has none.

    Existing values stay as they are; entries that the catalog does not know are kept.

    Raises:
        RaveError: SECRETS if a certificate is there without its key; HOST if the catalog asks for
            a kind of value that is not known here.
    """
    missing = [name for name in catalog if name not in existing]
    _check_pairs(existing, catalog, missing)
    values = dict(existing)
    # A certificate is made from its key, so it comes last.
    for name in sorted(missing, key=lambda name: _kind(catalog[name]) == "tls-certificate"):
        values[name] = make(catalog[name].generate, values, now=now or datetime.now(UTC))
    return {name: values[name] for name in [*catalog, *(set(values) - set(catalog))]}


def renew(
    existing: Mapping[str, str],
    catalog: Mapping[str, Secret],
    names: frozenset[str],
    *,
    now: datetime | None = None,
) -> dict[str, str]:
    """Return `existing` with new values for `names`; a renewed key renews its certificate.

    Raises:
        RaveError: as `complete`.
    """
    with_certificates = names | {
        name
        for name, secret in catalog.items()
        if _kind(secret) == "tls-certificate" and secret.generate["key"] in names
    }
    kept = {name: value for name, value in existing.items() if name not in with_certificates}
    return complete(kept, catalog, now=now)


def make(rule: Mapping[str, Any], values: Mapping[str, str], *, now: datetime) -> str:
    """Return a new value by a `generate` rule of the catalog.

    Args:
        rule: `kind` and its parameters.
        values: the values there are already; a certificate needs that of its key.
        now: the moment from which a certificate is valid.

    Raises:
        RaveError: HOST if the kind is unknown.
    """
    makers: dict[str, Callable[[], str]] = {
        "password": lambda: password(int(rule["length"])),
        "hex": lambda: secrets.token_hex(int(rule["bytes"])),
        "webhook-key": lambda: _webhook_key(int(rule["bytes"])),
        "matrix-key": _matrix_key,
        "rsa": lambda: _pem(rsa.generate_private_key(65537, int(rule["bits"]))),
        "tls-key": lambda: _pem(ec.generate_private_key(ec.SECP256R1())),
        "tls-certificate": lambda: certificate(values[rule["key"]], now=now),
        # The operator's to write: nothing is configured.
        "settings": lambda: "{}",
    }
    maker = makers.get(rule["kind"])
    if maker is None:
        raise RaveError(
            f"the catalog asks for a secret of kind {rule['kind']!r}, which this rave cannot make",
            hint="use the rave of the same checkout as the flake",
            exit_code=ExitCode.HOST,
        )
    return maker()


def password(length: int) -> str:
    """Return a random password of letters and digits (5.95 bits each)."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _matrix_key() -> str:
    """Return an Ed25519 key as Synapse's file has it: algorithm, version of the key, unpadded
    base64 of its seed (python-signedjson, `read_signing_keys`).
    """
    seed = b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"ed25519 a_{secrets.token_hex(3)} {seed}"


def _webhook_key(size: int) -> str:
    """Return a key of so many bytes as Standard Webhooks writes it, and GitLab takes it."""
    return f"whsec_{b64encode(secrets.token_bytes(size)).decode()}"


def certificate(key_pem: str, *, now: datetime) -> str:
    """Return a self-signed server certificate (PEM) for a private key (PEM)."""
    key = load_pem_private_key(key_pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("a TLS key is an EC or RSA key")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CERTIFICATE_NAMES[0])])
    addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in CERTIFICATE_ADDRESSES]
    alternatives = [*(x509.DNSName(n) for n in CERTIFICATE_NAMES), *addresses]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of guests may be a little behind.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + CERTIFICATE_LIFE)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode()


def _check_pairs(
    existing: Mapping[str, str], catalog: Mapping[str, Secret], missing: list[str]
) -> None:
    for name, secret in catalog.items():
        if _kind(secret) == "tls-certificate" and name in existing:
            key = secret.generate["key"]
            if key in missing:
                raise RaveError(
                    f"{name} is there but its key {key} is not, and none can be made to fit",
                    hint=f"rave secrets rotate {key}   (makes a new pair)",
                    exit_code=ExitCode.SECRETS,
                )


def _kind(secret: Secret) -> str:
    return str(secret.generate["kind"])


def _pem(key: PrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
