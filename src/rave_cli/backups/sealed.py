"""A text sealed to a passphrase, as `age --decrypt` opens it.

Source of the format: the age specification (https://age-encryption.org/v1: "Header", "The scrypt
recipient type", "Payload", and the armor of RFC 7468). A page on paper outlives this program.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = b"age-encryption.org/v1"
# Of two: 64 MiB of memory, and a fifth of a second.
WORK = 16
LONGEST = 64 << 10  # bytes: what goes into one chunk
_MEMORY = 256 << 20


def seal(text: bytes, passphrase: str) -> str:
    """Return a text of at most 64 KiB as an armored age file that a passphrase opens."""
    if len(text) >= LONGEST:
        raise ValueError("a sealed page has one chunk")
    salt, file_key, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    wrapping = hashlib.scrypt(
        passphrase.encode(), salt=VERSION + b"/scrypt" + salt, n=1 << WORK, r=8, p=1,
        maxmem=_MEMORY, dklen=32,
    )  # fmt: skip
    body = ChaCha20Poly1305(wrapping).encrypt(bytes(12), file_key, None)
    header = b"%s\n-> scrypt %s %d\n%s\n---" % (VERSION, _plain64(salt), WORK, _plain64(body))
    mac = hmac.digest(_derived(file_key, b"", b"header"), header, "sha256")
    # The last chunk of a stream, which is the first.
    counter = bytes(11) + b"\1"
    payload = ChaCha20Poly1305(_derived(file_key, nonce, b"payload")).encrypt(counter, text, None)
    return _armored(header + b" " + _plain64(mac) + b"\n" + nonce + payload)


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt or None, info=info).derive(key)


def _plain64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _armored(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    head, end = "-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----"
    return "\n".join((head, *lines, end)) + "\n"
