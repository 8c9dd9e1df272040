"""Checks of decrypted values: do they have the form that the catalog's rule promises?

Findings name a secret and never repeat its value.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from rave_cli.secrets import overlap
from rave_cli.secrets.findings import Finding, error, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

    from rave_cli.profiles.catalog import Secret

SHORTEST_PASSWORD = 16
# bcrypt, which NATS keeps its password with, reads no further.
LONGEST_PASSWORD = 72
# Bytes of a key (Standard Webhooks, "Symmetric").
WEBHOOK_KEY = range(24, 65)
# What needs no quoting wherever a service reads a password from: the address of a database, a line
# of .pgpass, an environment file, a configuration file. Letters, digits and the marks of RFC 3986
# (2.2, 2.3) that neither delimit there nor are special within quotes.
_PASSWORD = re.compile(r"[A-Za-z0-9._~!&()*+,;=-]+")
# A service that is given one of these takes it for the hash of a password, not for a password:
# PostgreSQL the first two (src/backend/libpq/crypt.c), NATS the third (server/auth.go).
_HASH = re.compile(r"md5[0-9a-f]{32}|SCRAM-SHA-256\$.*|\$2[abxy]\$.*")
# As generate.py makes it; versions of keys are letters, digits and underscores.
_MATRIX_KEY = re.compile(r"ed25519 \w+ [A-Za-z0-9+/]{43}")
_SOON = timedelta(days=30)


def check(
    values: Mapping[str, str], catalog: Mapping[str, Secret], *, now: datetime | None = None
) -> Iterator[Finding]:
    """Yield what is wrong with the values of the catalog's secrets."""
    moment = now or datetime.now(UTC)
    for name, secret in catalog.items():
        if name in values:
            yield from _check_one(name, secret, values, moment)


def _check_one(
    name: str, secret: Secret, values: Mapping[str, str], now: datetime
) -> Iterator[Finding]:
    rule, value = secret.generate, values[name]
    kind = rule["kind"]
    if kind == "password":
        yield from _check_password(name, value)
    elif kind in ("hex", "webhook-key", "matrix-key"):
        yield from _check_lines(name, secret, value)
    elif kind == "rsa":
        key = private_key(value)
        if not isinstance(key, rsa.RSAPrivateKey):
            yield error("value", "it is not an RSA private key in PEM", place=name)
        elif key.key_size < int(rule["bits"]):
            yield error("value", f"the RSA key has fewer than {rule['bits']} bits", place=name)
    elif kind == "tls-key":
        if not isinstance(private_key(value), ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            yield error("value", "it is not an EC or RSA private key in PEM", place=name)
    elif kind == "tls-certificate":
        yield from _check_certificate(name, value, values.get(rule["key"], ""), now)
    elif kind == "settings" and not _is_object(value):
        yield error("value", "it is not an object in JSON", place=name, hint="rave secrets edit")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _check_lines(name: str, secret: Secret, value: str) -> Iterator[Finding]:
    found = overlap.lines(secret, value)
    if len(found) > overlap.MOST:
        yield error("value", "it has more than one value before that counts, too", place=name)
    for one in found:
        yield from _check_bytes(name, secret.generate, one)


def _check_bytes(name: str, rule: Mapping[str, Any], value: str) -> Iterator[Finding]:
    if rule["kind"] == "hex":
        size = int(rule["bytes"])
        fits = re.fullmatch(f"[0-9a-f]{{{2 * size}}}", value) is not None
        form = f"{size} bytes in lower-case hex"
    elif rule["kind"] == "matrix-key":
        fits = _MATRIX_KEY.fullmatch(value) is not None
        form = "a signing key of Synapse"
    else:
        # A sender that makes its own may make it shorter or longer.
        fits = _webhook_key_size(value) in WEBHOOK_KEY
        form = "whsec_ and 24 to 64 bytes in base64"
    if not fits:
        hint = f"rave secrets rotate {name}   (makes a fitting one)"
        yield error("value", f"it is not {form}", place=name, hint=hint)


def _webhook_key_size(value: str) -> int:
    """Return how many bytes a key of Standard Webhooks has; 0 if it is none."""
    head, mark, key = value.partition("whsec_")
    try:
        # Some write it without the padding.
        padded = key + "=" * (-len(key) % 4)
        return len(b64decode(padded, validate=True)) if mark and not head else 0
    except ValueError:
        return 0


def _check_password(name: str, value: str) -> Iterator[Finding]:
    hint = f"rave secrets rotate {name}   (makes a fitting one)"
    if _HASH.fullmatch(value):
        fault = "it looks like the hash of a password, and a service would take it for one"
    elif not _PASSWORD.fullmatch(value):
        fault = "it has characters other than letters, digits and . _ ~ ! & ( ) * + , ; = -"
    elif len(value) < SHORTEST_PASSWORD:
        fault = f"it is shorter than {SHORTEST_PASSWORD} characters"
    elif len(value) > LONGEST_PASSWORD:
        fault = f"it is longer than {LONGEST_PASSWORD} characters, and NATS reads no further"
    else:
        return
    yield error("value", fault, place=name, hint=hint)


def _check_certificate(name: str, value: str, key_pem: str, now: datetime) -> Iterator[Finding]:
    try:
        certificate = x509.load_pem_x509_certificates(value.encode())[0]
    except ValueError:
        yield error("value", "it is not a certificate in PEM", place=name)
        return
    key = private_key(key_pem)
    if key is not None and _public(key.public_key()) != _public(certificate.public_key()):
        yield error("certificate-key", "it does not belong to the private key", place=name)
    ends = certificate.not_valid_after_utc
    hint = f"rave secrets rotate {name}"
    if ends <= now:
        yield error("certificate-expired", f"it ended on {ends:%Y-%m-%d}", place=name, hint=hint)
    elif ends - now < _SOON:
        yield warning("certificate-ends", f"it ends on {ends:%Y-%m-%d}", place=name, hint=hint)
    if certificate.not_valid_before_utc > now:
        begins = certificate.not_valid_before_utc
        yield error("certificate-early", f"it begins on {begins:%Y-%m-%d}", place=name)


def private_key(pem: str) -> PrivateKeyTypes | None:
    """Read an unencrypted private key in PEM; None if it is not one."""
    try:
        return load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        return None


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
