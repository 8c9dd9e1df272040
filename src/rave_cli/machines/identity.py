"""What makes a machine itself: SSH host key, login key and age identity, made before first boot.

Because the host key exists before the guest does, `known_hosts` is written before the first packet
and nobody ever has to trust a key on first use. Its certificate is made beside (certificate.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import age, paths

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


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
