"""The bill of materials of an image, from its lock alone: CycloneDX 1.5 and SPDX 2.3, as JSON.

Always the same bytes for the same lock and rave: its time is the lock's, its ids are made from the
lock's digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rave_cli import __version__
from rave_cli.images import licences
from rave_cli.images.lock import Package, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rave_cli.images.lock import File, Lock

# Any fixed namespace would do.
NAMESPACE = uuid.UUID("9f0b4e0e-5e5a-5f43-8a5b-0a3c3f6f2c55")
Json = dict[str, Any]


@dataclass(frozen=True)
class Component:
    """One file of a lock, as both formats need it.

    Attributes:
        ref: its name within the document, unique.
        entry: what the lock says.
        purl: package URL (github.com/package-url/purl-spec).
        needs: refs of what it asks for.
        built_with: whether it is used by the build alone, and is not in the image.
    """

    ref: str
    entry: Package | File
    purl: str
    needs: tuple[str, ...]
    built_with: bool


def components(lock: Lock) -> tuple[Component, ...]:
    """Return what a lock names, Debian's packages first."""
    release = lock.requested.archives[0].suites[0] if lock.requested.archives else ""
    found = [
        Component(
            ref=f"deb/{package.name}",
            entry=package,
            purl=_deb(package, release),
            needs=(),
            built_with=package.role == "tool",
        )
        for package in lock.packages
    ]
    for file in lock.files:
        needs = [
            _ref(other)
            for other in lock.files
            if other.service == file.service and file.name in other.needed_by
        ]
        found.append(Component(_ref(file), file, _purl(file), tuple(sorted(needs)), False))
    return tuple(found)


def _ref(file: File) -> str:
    return "/".join(filter(None, (file.kind, file.service, file.name)))


def _deb(package: Package, release: str) -> str:
    qualifiers = {"arch": package.architecture}
    if release:
        qualifiers["distro"] = f"debian-{release}"
    if package.source:
        qualifiers["upstream"] = package.source
    words = "&".join(
        f"{name}={quote(value, safe='')}" for name, value in sorted(qualifiers.items())
    )
    return f"pkg:deb/debian/{_quoted(package.name)}@{_quoted(package.version)}?{words}"


def _purl(file: File) -> str:
    kind = {"wheel": "pypi", "npm": "npm", "program": "generic"}[file.kind]
    scope, _, name = file.name.rpartition("/")
    place = f"{_quoted(scope)}/{_quoted(name)}" if scope else _quoted(name)
    return f"pkg:{kind}/{place}@{_quoted(file.version)}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def cyclonedx(lock: Lock, data: bytes, name: str) -> bytes:
    """Return the bill of materials as CycloneDX 1.5.

    Args:
        lock: what the image is made of.
        data: the lock as it is written; its digest is told.
        name: of the image.
    """
    every = components(lock)
    image = {
        "type": "operating-system",
        "bom-ref": "image",
        "name": name,
        "properties": [{"name": "rave:lock-sha256", "value": digest(data)}],
    }
    return _rendered(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": f"urn:uuid:{_identity(data, name)}",
            "version": 1,
            "metadata": {
                "timestamp": made(lock),
                "tools": {
                    "components": [{"type": "application", "name": "rave", "version": __version__}]
                },
                "component": image,
            },
            "components": [_cyclonedx_component(component) for component in every],
            "dependencies": [
                {"ref": "image", "dependsOn": sorted(c.ref for c in every)},
                *({"ref": c.ref, "dependsOn": list(c.needs)} for c in every if c.needs),
            ],
        }
    )


def _cyclonedx_component(component: Component) -> Json:
    entry = component.entry
    known = {
        "type": "application" if component.ref.startswith("program/") else "library",
        "bom-ref": component.ref,
        "name": entry.name,
        "version": entry.version,
        "scope": "excluded" if component.built_with else "required",
        "hashes": [{"alg": "SHA-256", "content": entry.sha256}],
        "purl": component.purl,
        "properties": [{"name": "rave:file", "value": entry.file}],
    }
    if names := licences.named(entry.licence):
        known["licenses"] = [_cyclonedx_licence(name) for name in names]
    return known


def _cyclonedx_licence(name: str) -> Json:
    found = licences.identifier(name)
    simple = found is not None and " " not in found
    return {"license": {"id": found} if simple else {"name": found or name}}


def spdx(lock: Lock, data: bytes, name: str) -> bytes:
    """Return the bill of materials as SPDX 2.3; arguments as of `cyclonedx`."""
    every = components(lock)
    ids = {component.ref: _spdx_id("Package", component.ref) for component in every}
    unknown = sorted(
        {
            licence
            for component in every
            for licence in licences.named(component.entry.licence)
            if licences.identifier(licence) is None
        }
    )
    image = {
        "SPDXID": "SPDXRef-Image",
        "name": name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "comment": f"made from the lock with sha256 {digest(data)}",
    }
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"urn:uuid:{_identity(data, name)}",
        "creationInfo": {"created": made(lock), "creators": [f"Tool: rave-{__version__}"]},
        "packages": [image, *(_spdx_package(component, ids) for component in every)],
        "relationships": list(_relationships(every, ids)),
    }
    if unknown:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": _reference(licence), "name": licence, "extractedText": licence,
             "comment": "as the package's own copyright file or metadata names it"}
            for licence in unknown
        ]  # fmt: skip
    return _rendered(document)


def _spdx_package(component: Component, ids: Mapping[str, str]) -> Json:
    entry = component.entry
    return {
        "SPDXID": ids[component.ref],
        "name": entry.name,
        "versionInfo": entry.version,
        "packageFileName": entry.file,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": entry.sha256}],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": _expression(licences.named(entry.licence)),
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": component.purl,
            }
        ],
    }


def _expression(names: Iterable[str]) -> str:
    """Return one expression for licences that all apply, each to some part."""
    terms = [licences.identifier(name) or _reference(name) for name in names]
    parts = [f"({term})" if " " in term else term for term in dict.fromkeys(terms)]
    return " AND ".join(parts) or "NOASSERTION"


def _relationships(every: Iterable[Component], ids: Mapping[str, str]) -> Iterator[Json]:
    """Yield who describes, holds and needs whom."""
    yield _related("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")
    for component in every:
        this = ids[component.ref]
        if component.built_with:
            yield _related(this, "BUILD_TOOL_OF", "SPDXRef-Image")
        else:
            yield _related("SPDXRef-Image", "CONTAINS", this)
        for ref in component.needs:
            yield _related(this, "DEPENDS_ON", ids[ref])


def _related(one: str, how: str, other: str) -> Json:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}


def _reference(name: str) -> str:
    return f"LicenseRef-{_slug(name)}"


def _spdx_id(kind: str, ref: str) -> str:
    return f"SPDXRef-{kind}-{_slug(ref)}"


def _slug(text: str) -> str:
    """Return a text in the characters that SPDX allows; a digest keeps apart what had others."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-")
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def made(lock: Lock) -> str:
    """Return when a lock was resolved, or its newest package built, as RFC 3339 says it."""
    if lock.resolved:
        when = datetime.strptime(lock.resolved, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    else:
        when = datetime.fromtimestamp(lock.epoch, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _identity(data: bytes, name: str) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, f"{name} {digest(data)} {__version__}")


def _rendered(document: Json) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


FORMATS: Mapping[str, Callable[[Lock, bytes, str], bytes]] = {
    "cyclonedx": cyclonedx,
    "spdx": spdx,
}
