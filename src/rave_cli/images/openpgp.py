"""OpenPGP keys by fingerprint: just enough to hand apt the keys that are named, and no other.

Source: RFC 4880, 4.2 (packet headers), 6.2 (armor) and 12.2 (fingerprints). Signatures are apt's
to check.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC_KEY = 6
_BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_END = "-----END PGP PUBLIC KEY BLOCK-----"


class MalformedKeyError(ValueError):
    """Data that is no OpenPGP key."""


def read_keys(data: bytes) -> dict[str, bytes]:
    """Return the primary keys of a keyring, armored or not: fingerprint -> the key's packets.

    Raises:
        MalformedKeyError: if it holds none, or anything else.
    """
    keys: dict[str, bytes] = {}
    for block in _blocks(data):
        current = ""
        for tag, body, packet in _packets(block):
            if tag == PUBLIC_KEY:
                current = _fingerprint(body)
                keys[current] = b""
            if not current:
                raise MalformedKeyError("it does not begin with a public key")
            keys[current] += packet
    if not keys:
        raise MalformedKeyError("it holds no public key")
    return keys


def armor(packets: bytes) -> str:
    """Return keys as ASCII armor, with the checksum without which GnuPG 2.2 finds no end."""
    body = "\n".join(textwrap.wrap(base64.b64encode(packets).decode(), 64))
    checksum = base64.b64encode(_crc24(packets).to_bytes(3, "big")).decode()
    return f"{_BEGIN}\n\n{body}\n={checksum}\n{_END}\n"


def _crc24(data: bytes) -> int:
    """Return the armor's checksum (RFC 4880, 6.1)."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc


def _blocks(data: bytes) -> Iterator[bytes]:
    """Yield the binary content: the data itself, or what its armored blocks hold."""
    if _BEGIN.encode() not in data:
        yield data
        return
    for block in data.decode("ascii", "replace").split(_BEGIN)[1:]:
        text, found, _ = block.partition(_END)
        # Headers end with an empty line; a last line that begins with = is the checksum.
        _, separator, body = text.replace("\r", "").partition("\n\n")
        if not found or not separator:
            raise MalformedKeyError("its armor is cut short")
        lines = [line for line in body.split("\n") if not line.startswith("=")]
        try:
            yield base64.b64decode("".join(lines), validate=True)
        except binascii.Error as error:
            raise MalformedKeyError(f"its armor cannot be decoded: {error}") from error


def _packets(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield each packet's tag, its body, and the whole of it."""
    at = 0
    while at < len(data):
        tag, head, size = _header(data[at : at + 6])
        end = at + head + size
        if end > len(data):
            raise MalformedKeyError("a packet is cut short")
        yield tag, data[at + head : end], data[at:end]
        at = end


def _header(data: bytes) -> tuple[int, int, int]:
    """Return a packet's tag, the length of its header, and of its body."""
    padded = data.ljust(6, b"\0")
    first, second = padded[0], padded[1]
    if not first & 0x80:
        raise MalformedKeyError("it is not made of OpenPGP packets")
    if not first & 0x40:  # the old format: the length's own length is in the tag
        width = {0: 1, 1: 2, 2: 4}.get(first & 3)
        if width is None:
            raise MalformedKeyError("a packet has no length")
        return (first >> 2) & 15, 1 + width, int.from_bytes(padded[1 : 1 + width], "big")
    tag = first & 63
    if second < 192:
        return tag, 2, second
    if second < 224:
        return tag, 3, ((second - 192) << 8) + padded[2] + 192
    if second == 255:
        return tag, 6, int.from_bytes(padded[2:6], "big")
    raise MalformedKeyError("a packet comes in parts, as no key does")


def _fingerprint(body: bytes) -> str:
    if body[:1] != b"\x04":
        raise MalformedKeyError("only keys of version 4 are understood")
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324 - RFC 4880 says so
