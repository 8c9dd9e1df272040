"""What makes a machine itself: SSH host key, login key and age identity, made before first boot.

Because the host key exists before the guest does, `known_hosts` is written before the first packet
and nobody ever has to trust a key on first use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from rave_cli import paths

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


@dataclass(frozen=True)
class SshKey:
    """An ed25519 key pair: the private half as an OpenSSH file, the public half as one line."""

    private: bytes
    public: bytes


@dataclass(frozen=True)
class AgeIdentity:
    """An age identity (secret) and its recipient (public)."""

    secret: str
    recipient: str

    @property
    def file(self) -> bytes:
        """The identity file in the form that `age-keygen` writes."""
        return f"# public key: {self.recipient}\n{self.secret}\n".encode()


def new_ssh_key(comment: str) -> SshKey:
    """Return a new ed25519 key pair."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return SshKey(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        public + b" " + comment.encode() + b"\n",
    )


def new_age_identity() -> AgeIdentity:
    """Return a new age identity (https://age-encryption.org/v1, X25519 recipients)."""
    return age_identity(os.urandom(32))


def age_identity(scalar: bytes) -> AgeIdentity:
    """Return the age identity of a 32-byte X25519 private key."""
    key = X25519PrivateKey.from_private_bytes(scalar)
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return AgeIdentity(
        bech32("age-secret-key-", scalar).upper(),
        bech32("age", public),
    )


def bech32(prefix: str, data: bytes) -> str:
    """Return `data` in Bech32 (BIP 173), as age writes keys; `prefix` must be lower case."""
    words = _regroup(data)
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    checksum = _polymod(expanded + words + [0] * 6) ^ 1
    words += [(checksum >> shift) & 31 for shift in range(25, -1, -5)]
    return prefix + "1" + "".join(_CHARSET[word] for word in words)


def _regroup(data: bytes) -> list[int]:
    """Split bytes into groups of five bits, the last one padded with zeros."""
    bits = len(data) * 8
    padding = -bits % 5
    number = int.from_bytes(data) << padding
    return [(number >> shift) & 31 for shift in range(bits + padding - 5, -1, -5)]


def _polymod(words: list[int]) -> int:
    """Return the BCH checksum of BIP 173."""
    checksum = 1
    for word in words:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ word
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum


def write(machine: Machine) -> None:
    """Make a machine's identity and pin its host key.

    Raises:
        RaveError: HOST if a file cannot be written.
    """
    paths.private_dir(machine.identity)
    host, login, age = new_ssh_key(machine.alias), new_ssh_key(machine.alias), new_age_identity()
    for path, key in ((machine.host_key, host), (machine.login_key, login)):
        paths.atomic_write(path, key.private, mode=0o600)
        paths.atomic_write(path.with_suffix(".pub"), key.public)
    paths.atomic_write(machine.age_key, age.file, mode=0o600)
    paths.atomic_write(machine.age_key.with_suffix(".pub"), f"{age.recipient}\n".encode())
    paths.atomic_write(machine.known_hosts, machine.alias.encode() + b" " + host.public)
