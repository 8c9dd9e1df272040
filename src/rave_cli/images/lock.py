"""The lock of an image: every file by name, version and sha256; no mirror, index or registry."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rave_cli import paths
from rave_cli.errors import ExitCode
from rave_cli.records import Document, RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterator
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

# A service of the catalog, and the name of its set's directory in the guest.
Service = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
# How many of those that ask for a file are told.
SHOWN_NAMES = 3

_CLAUSE = r"(==|~=|!=|<=|>=|<|>)[0-9][0-9A-Za-z.*+!]*"
# A distribution of Python, perhaps with extras and bounds (PEP 508); never an address.
Requirement = Annotated[
    str,
    Field(pattern=rf"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?({_CLAUSE}(,{_CLAUSE})*)?$"),
]
# A package of npm in exactly one version.
Release = Annotated[
    str,
    Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@\d+\.\d+\.\d+[0-9A-Za-z.+-]*$"),
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# A word of apt's sources and of its preferences.
Suite = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+./-]*$")]
# The name of a Debian package, which is a word of apt's preferences, too.
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]


class Archive(_Record):
    """A package archive: which suites of it count, and whose signatures.

    Attributes:
        name: of the distribution's archive, for its address; of the service whose maker has it.
        suites: those that count.
        keys: fingerprints of the keys that are believed.
        only: packages that may come from here, and nothing else; empty for any, which a maker's
            archive may not be.
        uri: where a maker's archive is; empty for the distribution's, whose mirrors the host names.
        components: of each suite.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    suites: tuple[Suite, ...] = Field(min_length=1)
    keys: tuple[str, ...] = Field(min_length=1)
    only: tuple[PackageName, ...] = ()
    uri: str = Field(default="", pattern=r"^(https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[^\s\[\]?#]*)?)?$")
    components: tuple[Suite, ...] = Field(default=("main",), min_length=1)

    @model_validator(mode="after")
    def _bounded(self) -> Archive:
        if self.uri and not self.only:
            raise ValueError("of a maker's archive the packages that may come from it are named")
        return self


class PackageRequest(_Record):
    """What was asked for: the flake's `debianRequests.<profile>`.

    Attributes:
        archives: of Debian; empty in locks of version 1 alone, which were made of whatever the
            host offered.
        guest: Debian packages to install.
        kernel: the Debian package that brings it.
        tools: Debian packages of the build alone.
        wheels: what each service's set takes from the index of Python's packages.
        tarballs: what it takes from the registry of npm.
    """

    archives: tuple[Archive, ...] = ()
    guest: tuple[str, ...]
    kernel: str
    tools: tuple[str, ...]
    wheels: dict[Service, tuple[Requirement, ...]] = {}
    tarballs: dict[Service, tuple[Release, ...]] = {}


class Locked(_Record):
    """One file.

    Attributes:
        name: of the package that it is.
        version: of that package.
        file: its name in the cache and in the Nix store.
        sha256: of its content.
        licence: as the file itself says it; empty if it says nothing that fits in a line.
    """

    name: str
    version: str
    file: str = _STORE_NAME
    sha256: str = _SHA256
    licence: str = ""


class Package(Locked):
    """A Debian package.

    Attributes:
        architecture: of the package.
        role: what it is for.
        security: whether the security archive offered this version.
        source: name of the source package, where it is another.
    """

    architecture: str
    role: Role
    security: bool = False
    source: str = ""


class File(Locked):
    """A file of another kind than Debian's packages.

    Attributes:
        kind: which; it tells how to get it.
        service: whose set it is of; empty for a program that rave's own guest code runs.
        needed_by: names of the set's files that ask for it; empty if the service's record does.
    """

    kind: Kind
    service: Service | Literal[""] = ""
    needed_by: tuple[str, ...] = ()


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
    """One package or file that differs between two locks; a version is None where it has none.

    Attributes:
        name: of the package.
        old: its version before.
        new: its version now.
        security: whether the security archive offers it.
        service: whose set it is of, if it is of one.
        why: what is known of the reason, in a few words.
    """

    name: str
    old: str | None
    new: str | None
    security: bool = False
    service: str = ""
    why: str = ""

    def __str__(self) -> str:
        """Return the change as one line."""
        note = f"  ({self.why})" if self.why else ""
        if self.old is None:
            return f"+ {self.name} {self.new}{note}"
        if self.new is None:
            return f"- {self.name} {self.old}{note}"
        return f"{self.name} {self.old} -> {self.new}{note}"


def give_kinds(document: Document) -> Document:
    """Upgrade: sops stood alone; which archives were asked, and when, was not written down."""
    known = {name: value for name, value in document.items() if name != "sops"}
    return known | {"files": [{"kind": "program", "name": "sops", **document["sops"]}]}


def give_sets(document: Document) -> Document:
    """Upgrade: there were no sets, and nobody noted licences; both may be absent."""
    return document


FORMAT = RecordFormat(
    title="the lock",
    shape=Lock,
    version=3,
    upgrades={1: give_kinds, 2: give_sets},
    exit_code=ExitCode.BUILD,
)


def parse(data: bytes, place: Path) -> Lock:
    """Return the lock that `data`, read from `place`, describes, whatever version wrote it.

    Raises:
        NewerRecordError: if a newer rave made it.
        DamagedRecordError: if it is no lock.
    """
    return FORMAT.parse(data, place, hint=f"rave vm lock-closure --profile {place.stem}")


def load(place: Path) -> tuple[Lock, bytes]:
    """Return the lock in a file, and the file's content.

    Raises:
        NewerRecordError: if a newer rave made it.
        DamagedRecordError: if it is no lock.
        RaveError: BUILD if it cannot be read, or somebody else may have written it.
    """
    data = paths.read_trusted(place, exit_code=ExitCode.BUILD)
    return parse(data, place), data


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
    """Return everything in which `new` differs from `old`, security updates first, then by set."""
    before, after = (_entries(lock) for lock in (old, new))
    asked = set(new.requested.guest) - set(old.requested.guest)
    changes = [
        _change(key, before.get(key), after.get(key), asked)
        for key in before.keys() | after.keys()
        if _content(before.get(key)) != _content(after.get(key))
    ]
    return tuple(sorted(changes, key=lambda c: (not c.security, c.service, c.name)))


def _entries(lock: Lock) -> dict[tuple[str, str], Package | File]:
    """Return what a lock has by set and name: two sets may have two versions of one package."""
    debian = {("", package.name): package for package in lock.packages}
    return debian | {(file.service, file.name): file for file in lock.files}


def _content(entry: Package | File | None) -> tuple[str, str] | None:
    return (entry.version, entry.sha256) if entry is not None else None


def _change(
    key: tuple[str, str], old: Package | File | None, new: Package | File | None, asked: set[str]
) -> PackageChange:
    service, name = key
    return PackageChange(
        name=name,
        old=old.version if old else None,
        new=new.version if new else None,
        security=isinstance(new, Package) and new.security,
        service=service,
        why=", ".join(_reasons(old, new, asked)),
    )


def _reasons(
    old: Package | File | None, new: Package | File | None, asked: set[str]
) -> Iterator[str]:
    """Yield what is known of why an entry changed."""
    if isinstance(new, Package) and new.security:
        yield "security update"
    elif isinstance(new, Package) and old is None and new.name in asked:
        yield "asked for"
    known = new or old
    if isinstance(known, File) and known.service:
        yield f"of {known.service}"
    if isinstance(new, File) and new.needed_by:
        more = len(new.needed_by) - SHOWN_NAMES
        shown = [*new.needed_by[:SHOWN_NAMES], *([f"{more} more"] if more > 0 else [])]
        yield f"for {' and '.join(shown)}"
    if old and new and old.version == new.version:
        yield "another file"


def digest(data: bytes) -> str:
    """Return the sha256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
