"""Manifests: written in one form, and read from registries of which nothing is trusted.

Source: OCI image spec 1.1, "manifest" and "image-index"; distribution spec 1.1, "Referrers".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry.content import Descriptor
from rave_cli.registry.reference import DIGEST

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
EMPTY_DATA = b"{}"

# Bytes of a manifest that registries take at least (distribution spec 1.1, "Pushing Manifests").
LARGEST = 4 << 20
# What a size can be: registries count in 63 bits.
MOST = (1 << 63) - 1

CREATED = "org.opencontainers.image.created"
TITLE = "org.opencontainers.image.title"
PREDICATE = "in-toto.io/predicate-type"


@dataclass(frozen=True)
class Manifest:
    """An image manifest, which artifacts have, too.

    Attributes:
        config: of what it is.
        layers: its content.
        artifact_type: what kind of artifact it is; None for an image of anybody's.
        subject: the manifest that it says something about.
        annotations: of all of it.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def data(self) -> bytes:
        """Return its bytes.

        Raises:
            RaveError: USAGE if registries need not take so many.
        """
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST}
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        document["config"] = self.config.document()
        document["layers"] = [layer.document() for layer in self.layers]
        if self.subject:
            document["subject"] = self.subject.document()
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        written = json.dumps(document, separators=(",", ":")).encode()
        if len(written) > LARGEST:
            raise RaveError(
                f"the manifest would have {len(written) >> 20} MiB, and registries take"
                f" {LARGEST >> 20}",
                hint="put the files into an archive",
                exit_code=ExitCode.USAGE,
            )
        return written


def parse(raw: bytes, what: str) -> Manifest:
    """Read a manifest.

    Args:
        raw: its bytes.
        what: its name, for people.

    Raises:
        RaveError: VERIFICATION if it is none.
    """
    document = parse_json(raw, what)
    match document:
        case {"schemaVersion": 2, "mediaType": str(kind), "config": config, "layers": list(layers)}:
            pass
        case _:
            raise unknown(what, "it is no manifest of an image")
    if kind != MANIFEST:
        raise unknown(what, "it is of another media type")
    subject, artifact_type = document.get("subject"), document.get("artifactType")
    return Manifest(
        config=_descriptor(config, what),
        layers=tuple(_descriptor(layer, what) for layer in layers),
        artifact_type=artifact_type if isinstance(artifact_type, str) else None,
        subject=None if subject is None else _descriptor(subject, what),
        annotations=_annotations(document.get("annotations"), what),
    )


def parse_index(raw: bytes, what: str) -> list[Descriptor]:
    """Read an index: the descriptors in it.

    Raises:
        RaveError: VERIFICATION if it is none.
    """
    match parse_json(raw, what):
        case {"schemaVersion": 2, "manifests": list(manifests)}:
            return [_descriptor(entry, what) for entry in manifests]
    raise unknown(what, "it is no index")


def index_data(manifests: list[Descriptor]) -> bytes:
    """Return the bytes of an index."""
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [entry.document() for entry in manifests],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def parse_json(raw: bytes, what: str) -> Any:  # noqa: ANN401 - anything JSON can carry
    """Read JSON of a registry's.

    Raises:
        RaveError: VERIFICATION if it is none, or too much of it.
    """
    if len(raw) > LARGEST:
        raise unknown(what, f"it is larger than {LARGEST >> 20} MiB")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise unknown(what, "it is no JSON that can be read") from error


def unknown(what: str, why: str) -> RaveError:
    """Return the refusal of something that a registry has."""
    return RaveError(
        f"{what} is refused: {why}",
        hint="name what `rave image push` or `rave pool push` has pushed",
        exit_code=ExitCode.VERIFICATION,
    )


def _descriptor(document: object, what: str) -> Descriptor:
    match document:
        case {"mediaType": str(kind), "digest": str(digest), "size": int(size), **rest} if (
            DIGEST.fullmatch(digest) and not isinstance(size, bool) and 0 <= size <= MOST
        ):
            artifact_type = rest.get("artifactType")
            return Descriptor(
                kind,
                digest,
                size,
                _annotations(rest.get("annotations"), what),
                artifact_type if isinstance(artifact_type, str) else None,
            )
    raise unknown(what, "it holds a descriptor that is none")


def _annotations(document: object, what: str) -> dict[str, str]:
    if document is None:
        return {}
    if isinstance(document, dict) and all(isinstance(value, str) for value in document.values()):
        return document
    raise unknown(what, "its annotations are not texts")
