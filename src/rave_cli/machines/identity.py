"""What makes a machine itself: SSH host key, login key and age identity, made before first boot.

Because the host key exists before the guest does, `known_hosts` is written before the first packet
and nobody ever has to trust a key on first use. The certificate that a machine shows as long as it
has no secrets is its own to make, but for a copy of a template: for that it is made here.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rave_cli import age, paths

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


TLS_SUBJECT = "rave (ephemeral)"
TLS_LIFE = timedelta(days=90)


@dataclass(frozen=True)
class SshKey:
    """An ed25519 key pair: the private half as an OpenSSH file, the public half as one line."""

    private: bytes
    public: bytes


def new_ssh_key(comment: str) -> SshKey:
    """Return a new ed25519 key pair."""
    # Only here: whoever lists machines needs no cryptography, which takes long to import.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return SshKey(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        public + b" " + comment.encode() + b"\n",
    )


@dataclass(frozen=True)
class Certificate:
    """A P-256 key and the certificate that it has signed for the names, both as PEM."""

    key: bytes
    certificate: bytes
    names: str


def new_certificate(host: str) -> Certificate:
    """Return a new key with its certificate; it takes milliseconds here and, under emulation,
    tenths of a second in a guest.

    Args:
        host: of the machine's public origin.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, TLS_SUBJECT)])
    # As the guest makes it (infra/debian/services/nginx): it takes another only for the same names.
    names = f"DNS:localhost,DNS:{host},DNS:*.{host},IP:127.0.0.1"
    alternatives = [
        *map(x509.DNSName, ("localhost", host, f"*.{host}")),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + TLS_LIFE)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        built.public_bytes(Encoding.PEM),
        names,
    )


def write(machine: Machine) -> None:
    """Make a machine's identity and pin its host key.

    Raises:
        RaveError: HOST if a file cannot be written.
    """
    paths.private_dir(machine.identity)
    host, login, own = new_ssh_key(machine.alias), new_ssh_key(machine.alias), age.generate()
    for path, key in ((machine.host_key, host), (machine.login_key, login)):
        paths.atomic_write(path, key.private, mode=0o600)
        paths.atomic_write(path.with_suffix(".pub"), key.public)
    paths.atomic_write(machine.age_key, own.file_text(), mode=0o600)
    paths.atomic_write(machine.age_key.with_suffix(".pub"), f"{own.recipient}\n".encode())
    pin(machine, machine.alias)


def pin(machine: Machine, *aliases: str) -> None:
    """Pin a machine's host key under these names and no other.

    Raises:
        RaveError: HOST if the key cannot be read or the file not written.
    """
    public = machine.host_key.with_suffix(".pub")
    with paths.refusing(public):
        key = public.read_bytes()
    lines = (alias.encode() + b" " + key for alias in aliases)
    paths.atomic_write(machine.known_hosts, b"".join(lines))
