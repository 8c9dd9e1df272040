"""What a registry keeps: descriptors of it, and content that can be read from any place on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rave_cli import paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PIECE = 1 << 20


@dataclass(frozen=True)
class Descriptor:
    """What names content: OCI image spec 1.1, "Descriptor". `digest` is `sha256:HEX`."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str | None = None

    def document(self) -> dict[str, object]:
        """Return it as JSON-ready values."""
        found: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        return found


@dataclass(frozen=True)
class Content:
    """Bytes that are written one after another: some at hand, some in files.

    Attributes:
        parts: bytes, or a file with its size in bytes.
    """

    parts: tuple[bytes | tuple[Path, int], ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(len(part) if isinstance(part, bytes) else part[1] for part in self.parts)

    def pieces(self, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield `length` bytes from `start` on, in pieces; a file that was cut gives fewer.

        Raises:
            RaveError: HOST if a file cannot be read.
        """
        left = self.size - start if length is None else length
        for part in self.parts:
            size = len(part) if isinstance(part, bytes) else part[1]
            if start >= size:
                start -= size
                continue
            for piece in _part(part, start, min(left, size - start)):
                left -= len(piece)
                yield piece
            start = 0
            if left <= 0:
                return

    def digest(self) -> str:
        """Return its digest; reads all of it.

        Raises:
            RaveError: HOST if a file cannot be read.
        """
        found = hashlib.sha256()
        for piece in self.pieces():
            found.update(piece)
        return f"sha256:{found.hexdigest()}"

    def described(
        self, media_type: str, annotations: Mapping[str, str] | None = None
    ) -> Descriptor:
        """Return its descriptor; reads all of it."""
        return Descriptor(media_type, self.digest(), self.size, annotations or {})


def of_bytes(data: bytes) -> Content:
    """Return content at hand."""
    return Content((data,))


def of_file(place: Path, size: int) -> Content:
    """Return a file's content, which had that many bytes when it was recorded."""
    return Content(((place, size),))


def digest_of(data: bytes) -> str:
    """Return the digest of bytes at hand."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _part(part: bytes | tuple[Path, int], start: int, length: int) -> Iterator[bytes]:
    if isinstance(part, bytes):
        yield part[start : start + length]
        return
    place, _ = part
    with paths.refusing(place), place.open("rb") as stream:
        stream.seek(start)
        while length > 0 and (piece := stream.read(min(PIECE, length))):
            length -= len(piece)
            yield piece
