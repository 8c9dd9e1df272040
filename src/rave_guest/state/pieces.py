"""Files in pieces. Services import it, and with some of them the boot."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 64 << 10  # bytes; larger ones cost an emulated guest a page fault for each of theirs


def pieces_of(path: str) -> Iterator[bytes]:
    """Yield a file's bytes."""
    with open(path, "rb", buffering=0) as stream:
        while data := stream.read(PIECE):
            yield data
