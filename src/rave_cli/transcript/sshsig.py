"""OpenSSH's forms of an Ed25519 key and of a signature (SSHSIG), byte for byte as ssh-keygen's.

Source: PROTOCOL.sshsig and the RFC 4251 encodings, OpenSSH 8.1 and later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rave_cli.transcript.canonical import DamagedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

KEY_TYPE = b"ssh-ed25519"
NAMESPACE = "rave-transcript@v1"
MAGIC = b"SSHSIG"
VERSION = 1
HASH = b"sha512"
BEGIN = b"-----BEGIN SSH SIGNATURE-----\n"
END = b"-----END SSH SIGNATURE-----\n"
ARMOR_WIDTH = 70


@dataclass(frozen=True)
class SshSignature:
    """A parsed SSHSIG made with an Ed25519 key and SHA-512."""

    public: bytes
    namespace: str
    signature: bytes


def public_blob(key: Ed25519PublicKey) -> bytes:
    """Return a public key as it stands, in base64, in a `.pub` file."""
    return _string(KEY_TYPE) + _string(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return what `ssh-keygen -l` calls the key: `SHA256:…`."""
    digest = hashlib.sha256(public_blob(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_line(key: Ed25519PublicKey) -> str:
    """Return `ssh-ed25519 AAAA…`."""
    return f"{KEY_TYPE.decode()} {base64.b64encode(public_blob(key)).decode()}"


def sign(key: Ed25519PrivateKey, message: bytes, namespace: str = NAMESPACE) -> bytes:
    """Return the armored signature that `ssh-keygen -Y sign -n NAMESPACE` would make."""
    signature = key.sign(signed_bytes(message, namespace))
    return _armor(SshSignature(public_blob(key.public_key()), namespace, signature))


def signed_bytes(message: bytes, namespace: str) -> bytes:
    """Return the bytes that an SSHSIG covers."""
    digest = hashlib.sha512(message).digest()
    return MAGIC + _string(namespace.encode()) + _string(b"") + _string(HASH) + _string(digest)


def parse(armored: bytes) -> SshSignature:
    """Read an armored signature that must be written exactly as ssh-keygen writes it.

    Raises:
        DamagedError: if it is anything else, or of another key type or hash.
    """
    if not armored.startswith(BEGIN) or not armored.endswith(END):
        raise DamagedError("it is not an armored SSH signature")
    try:
        blob = base64.b64decode(armored[len(BEGIN) : -len(END)].replace(b"\n", b""), validate=True)
        found = _parse_blob(blob)
    except (binascii.Error, struct.error, UnicodeDecodeError) as error:
        raise DamagedError("it is damaged") from error
    if _armor(found) != armored:
        raise DamagedError("it is not an Ed25519 signature over SHA-512 as ssh-keygen writes it")
    return found


def _parse_blob(blob: bytes) -> SshSignature:
    rest = blob[len(MAGIC) + 4 :]
    public, rest = _take(rest)
    namespace, rest = _take(rest)
    _reserved, rest = _take(rest)
    _hash, rest = _take(rest)
    signed, rest = _take(rest)
    _kind, signed = _take(signed)
    signature, signed = _take(signed)
    return SshSignature(public, namespace.decode("ascii"), signature)


def _armor(found: SshSignature) -> bytes:
    signed = _string(KEY_TYPE) + _string(found.signature)
    blob = b"".join(
        (
            MAGIC,
            struct.pack(">I", VERSION),
            _string(found.public),
            _string(found.namespace.encode()),
            _string(b""),
            _string(HASH),
            _string(signed),
        )
    )
    text = base64.b64encode(blob)
    lines = [text[at : at + ARMOR_WIDTH] + b"\n" for at in range(0, len(text), ARMOR_WIDTH)]
    return BEGIN + b"".join(lines) + END


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    """Return the first string of `data` and what follows it."""
    (length,) = struct.unpack_from(">I", data)
    if len(data) < 4 + length:
        raise DamagedError("it is cut short")
    return data[4 : 4 + length], data[4 + length :]
