"""Write a raw disk image as qcow2, always to the same bytes.

`qemu-img convert` writes a header that depends on its version, so the image would depend on the
host's. The layout follows QEMU's docs/interop/qcow2.txt, version 3: header, refcount table,
refcount blocks, L1 table, L2 tables, then the clusters that are not zero, in order.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
L2_ENTRIES = CLUSTER // 8
REFCOUNTS_PER_BLOCK = CLUSTER // 2  # 16 bits each
COPIED = 1 << 63  # "refcount is exactly one"
HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
ZERO = bytes(CLUSTER)


def write_qcow2(raw: Path, target: Path) -> int:
    """Write `raw`, a multiple of 64 KiB long, as qcow2; return the number of data clusters."""
    size = raw.stat().st_size
    if size % CLUSTER:
        raise ValueError(f"{raw} is {size} bytes, not a multiple of {CLUSTER}")
    with raw.open("rb") as source:
        used = used_clusters(source.fileno(), size)
        with target.open("wb") as out:
            for block in metadata(size, used):
                out.write(block)
            for index in used:
                out.write(os.pread(source.fileno(), CLUSTER, index * CLUSTER))
    return len(used)


def used_clusters(fd: int, size: int) -> list[int]:
    """Return the numbers of the clusters that hold anything but zeros; holes are skipped unread."""
    used: list[int] = []
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        end = os.lseek(fd, offset, os.SEEK_HOLE)
        first = offset // CLUSTER
        last = (end + CLUSTER - 1) // CLUSTER
        start = first if not used or used[-1] < first else first + 1
        used += [i for i in range(start, last) if os.pread(fd, CLUSTER, i * CLUSTER) != ZERO]
        offset = last * CLUSTER
    return used


def metadata(size: int, used: list[int]) -> list[bytes]:
    """Return header, refcount table and blocks, L1 and L2 tables, each padded to clusters."""
    l2_numbers = sorted({index // L2_ENTRIES for index in used})
    l1_entries = -(-size // (CLUSTER * L2_ENTRIES))
    l1_clusters = -(-l1_entries * 8 // CLUSTER)
    fixed = 2 + l1_clusters + len(l2_numbers) + len(used)  # header and refcount table are one each
    blocks = refcount_blocks(fixed)
    if blocks * 8 > CLUSTER:
        raise ValueError(f"{size} bytes need more than one cluster of refcount table")
    l1_at = 2 + blocks
    l2_at = l1_at + l1_clusters
    data_at = l2_at + len(l2_numbers)
    header = HEADER.pack(
        b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, size, 0, l1_entries, l1_at * CLUSTER, CLUSTER, 1, 0, 0,
        0, 0, 0, 4, HEADER.size,
    )  # fmt: skip
    l1 = [0] * l1_entries
    for position, number in enumerate(l2_numbers):
        l1[number] = (l2_at + position) * CLUSTER | COPIED
    place = {index: data_at + position for position, index in enumerate(used)}
    return [
        padded(header + bytes(8)),
        padded(words([(2 + i) * CLUSTER for i in range(blocks)])),
        refcounts(fixed + blocks, blocks),
        padded(words(l1)),
        *(l2_table(number, place) for number in l2_numbers),
    ]


def refcount_blocks(clusters: int) -> int:
    """Return how many refcount blocks count `clusters` other clusters and themselves."""
    blocks = 1
    while blocks * REFCOUNTS_PER_BLOCK < clusters + blocks:
        blocks += 1
    return blocks


def refcounts(clusters: int, blocks: int) -> bytes:
    """Return the refcount blocks: one for each cluster of the file."""
    return (b"\x00\x01" * clusters).ljust(blocks * CLUSTER, b"\x00")


def l2_table(number: int, place: dict[int, int]) -> bytes:
    """Return the L2 table that maps the `number`-th group of clusters."""
    first = number * L2_ENTRIES
    return words(
        [place[i] * CLUSTER | COPIED if i in place else 0 for i in range(first, first + L2_ENTRIES)]
    )


def words(values: list[int]) -> bytes:
    """Return big-endian 64-bit words."""
    return struct.pack(f">{len(values)}Q", *values)


def padded(block: bytes) -> bytes:
    """Return `block` filled up with zeros to whole clusters."""
    return block.ljust(-(-len(block) // CLUSTER) * CLUSTER, b"\x00")
