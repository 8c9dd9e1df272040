"""The lock of a Debian closure: every file by name, version and sha256, and no mirror."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from rave_cli.errors import ExitCode
from rave_cli.records import Document, RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# essential and guest packages are installed in this order; the kernel and tools are extracted.
Role = Literal["essential", "guest", "kernel", "tool"]
# What is not a Debian package: a program of a Python distribution, a wheel, a tarball of npm.
Kind = Literal["program", "wheel", "npm"]
_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")
# What Nix allows in the name of a store path.
_STORE_NAME = Field(pattern=r"^[0-9A-Za-z+_?=-][0-9A-Za-z+._?=-]{0,200}$")
# An OpenPGP key of version 4 (RFC 4880, 12.2).
_FINGERPRINT = r"^[0-9A-F]{40}$"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Archive(_Record):
    """A package archive of the distribution: which suites of it count, and whose signatures."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    suites: tuple[str, ...] = Field(min_length=1)
    keys: tuple[str, ...] = Field(min_length=1)


class PackageRequest(_Record):
    """What was asked of apt: the flake's `debianRequests.<profile>`.

    `archives` is empty in locks of version 1 alone, which were made of whatever the host offered.
    """

    archives: tuple[Archive, ...] = ()
    guest: tuple[str, ...]
    kernel: str
    tools: tuple[str, ...]


class Locked(_Record):
    """One file. `file` is its name in the cache and in the Nix store."""

    name: str
    version: str
    file: str = _STORE_NAME
    sha256: str = _SHA256


class Package(Locked):
    """A Debian package. `security` tells that the security archive offered this version."""

    architecture: str
    role: Role
    security: bool = False


class File(Locked):
    """A file of another kind than Debian's packages."""

    kind: Kind


class Lock(_Record):
    """A closure.

    Attributes:
        epoch: seconds; the newest package's build time, and the newest time stamp in the image.
        resolved: when the archives offered all of it, in UTC as 20261120T120000Z; empty if unknown.
        trusted: fingerprints of keys that the operator trusted beside the distribution's.
        requested: what it was resolved from.
        packages: every Debian package, in the order in which apt would install them.
        files: every other file.
        replaces: sha256 of the repository's lock that this one stands in for, if it does.
    """

    epoch: int = Field(gt=0)
    resolved: str = Field(default="", pattern=r"^(\d{8}T\d{6}Z)?$")
    trusted: tuple[str, ...] = ()
    requested: PackageRequest
    packages: tuple[Package, ...] = Field(min_length=1)
    files: tuple[File, ...] = ()
    replaces: str | None = None


@dataclass(frozen=True)
class PackageChange:
    """One package or file that differs between two locks; a version is None where it has none."""

    name: str
    old: str | None
    new: str | None
    security: bool = False

    def __str__(self) -> str:
        """Return the change as one line."""
        note = "  (security update)" if self.security else ""
        if self.old is None:
            return f"+ {self.name} {self.new}{note}"
        if self.new is None:
            return f"- {self.name} {self.old}"
        return f"{self.name} {self.old} -> {self.new}{note}"


def give_kinds(document: Document) -> Document:
    """Upgrade: sops stood alone; which archives were asked, and when, was not written down."""
    known = {name: value for name, value in document.items() if name != "sops"}
    return known | {"files": [{"kind": "program", "name": "sops", **document["sops"]}]}


FORMAT = RecordFormat(
    title="the lock",
    shape=Lock,
    version=2,
    upgrades={1: give_kinds},
    exit_code=ExitCode.BUILD,
)


def parse(data: bytes, place: Path) -> Lock:
    """Return the lock that `data`, read from `place`, describes, whatever version wrote it.

    Raises:
        NewerRecordError: if a newer rave made it.
        DamagedRecordError: if it is no lock.
    """
    return FORMAT.parse(data, place, hint=f"rave vm lock-closure --profile {place.stem}")


def render(lock: Lock) -> bytes:
    """Return the lock as JSON, one file per line, so that a change of one is one line."""
    document = lock.model_dump(exclude_none=True, exclude_defaults=True, mode="json")
    document = {FORMAT.member: FORMAT.version, **document}
    lists = {name: document.pop(name, []) for name in ("files", "packages")}
    text = json.dumps(document, indent=2).removesuffix("\n}")
    for name, entries in lists.items():
        lines = ",\n".join(f"    {json.dumps(entry)}" for entry in entries)
        text += f',\n  "{name}": [\n{lines}\n  ]' if entries else f',\n  "{name}": []'
    return f"{text}\n}}\n".encode()


def difference(old: Lock, new: Lock) -> tuple[PackageChange, ...]:
    """Return everything in which `new` differs from `old`, security updates first."""
    before, after = (_versions(lock) for lock in (old, new))
    security = {package.name for package in new.packages if package.security}
    changes = [
        PackageChange(name, before.get(name), after.get(name), name in security)
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    ]
    return tuple(sorted(changes, key=lambda change: (not change.security, change.name)))


def _versions(lock: Lock) -> dict[str, str]:
    every: Iterable[Locked] = (*lock.packages, *lock.files)
    return {entry.name: entry.version for entry in every}


def digest(data: bytes) -> str:
    """Return the sha256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()
