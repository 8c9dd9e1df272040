"""Tokens of OpenID Connect that their provider signed (RFC 7515, RS256)."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# DER of a DigestInfo for SHA-256, before the digest (RFC 8017, 9.2, note 1).
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def verified(token: str, keys: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the claims of a token that one of the provider's keys signed.

    Raises:
        ValueError: none did, or it is no token.
        KeyError: a key is none.
    """
    head, body, signature = token.split(".")
    header = json.loads(_decoded(head))
    if header.get("alg") != "RS256":
        raise ValueError(f"the token is signed by {header.get('alg')}")
    found = [key for key in keys if key.get("kid") == header.get("kid") and key["kty"] == "RSA"]
    if len(found) != 1:
        raise ValueError("none of the provider's keys signed the token")
    n, e = (int.from_bytes(_decoded(found[0][part]), "big") for part in ("n", "e"))
    size = (n.bit_length() + 7) // 8
    opened = pow(int.from_bytes(_decoded(signature), "big"), e, n).to_bytes(size, "big")
    tail = DIGEST_INFO + hashlib.sha256(f"{head}.{body}".encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(tail) - 3) + b"\x00" + tail
    if opened != padded:
        raise ValueError("the token's signature is none")
    claims: dict[str, Any] = json.loads(_decoded(body))
    return claims


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
