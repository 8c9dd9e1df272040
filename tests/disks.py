"""Files that read as qcow2 as far as rave reads them: size, what lies below, the first sector."""

from __future__ import annotations

import struct

_L1, _L2, _CLUSTER = 4096, 8192, 12288
LABEL = "rave-data 1 {}\n"


def qcow2(size: int = 1 << 30, *, sector: bytes | None = None, below: str = "") -> bytes:
    """Return a qcow2 file of `size` bytes, with what its first sector holds (None: never written),
    on the file `below`. The layout is of QEMU's docs/interop/qcow2.txt.
    """
    name = below.encode()
    header = struct.pack(
        ">4sIQIIQIIQ", b"QFI\xfb", 3, 112 if name else 0, len(name), 16, size, 0, 1, _L1
    )
    data = (header.ljust(112, b"\0") + name).ljust(_L1, b"\0")
    if sector is None:
        return data.ljust(_CLUSTER, b"\0")
    data += struct.pack(">Q", 1 << 63 | _L2).ljust(_L2 - _L1, b"\0")
    data += struct.pack(">Q", 1 << 63 | _CLUSTER).ljust(_CLUSTER - _L2, b"\0")
    return data + sector.ljust(512, b"\0")


def labelled(machine_id: str) -> bytes:
    """Return a data disk that says to be a machine's."""
    return qcow2(sector=LABEL.format(machine_id).encode())
