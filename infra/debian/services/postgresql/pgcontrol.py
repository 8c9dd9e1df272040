"""Takes the chance out of a PostgreSQL 15 control file, so that one lock gives one image.

Usage: pgcontrol.py FILE

initdb draws a system identifier from clock and process id, and a random nonce for the mock
authentication of unknown roles. Layout: ControlFileData in src/include/catalog/pg_control.h of
PostgreSQL 15 (PG_CONTROL_VERSION 1300) on a 64-bit machine; the CRC-32C is its last member.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

VERSION = 1300
VERSION_AT = 8
NONCE_AT, NONCE_SIZE = 256, 32
CRC_AT = 288
SEED = b"rave"


class UnknownLayoutError(ValueError):
    """The file is not a sound control file of PostgreSQL 15."""


def fixed(control: bytes) -> bytes:
    """The control file with a fixed identifier and nonce, and a CRC that fits.

    Raises:
        UnknownLayoutError: if it is of another version, or its CRC does not match.
    """
    (version,) = struct.unpack_from("<I", control, VERSION_AT)
    (crc,) = struct.unpack_from("<I", control, CRC_AT)
    if version != VERSION or crc != crc32c(control[:CRC_AT]):
        raise UnknownLayoutError(f"not a control file of PostgreSQL 15 (version {version})")
    data = bytearray(control)
    data[0:8] = hashlib.sha256(SEED).digest()[:7] + b"\0"
    data[NONCE_AT : NONCE_AT + NONCE_SIZE] = hashlib.sha256(SEED + b" nonce").digest()
    data[CRC_AT : CRC_AT + 4] = struct.pack("<I", crc32c(bytes(data[:CRC_AT])))
    return bytes(data)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected, polynomial 0x1EDC6F41; RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_bytes(fixed(place.read_bytes()))
