"""Tarballs of npm, by this host's npm, from the registry that it is set up for.

A set takes a package as the one tarball that its maker published. One that asks for others, which
neither it nor the set has, is refused: nothing here resolves a tree of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.lock import File, file_digest

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

TIMEOUT = 600.0  # seconds for one tarball
MOST_METADATA = 1 << 20  # bytes of a package.json
LONGEST_LICENCE = 64

_SPACE = re.compile(r"ENOSPC|EDQUOT|No space left on device")
_MISMATCH = re.compile(r"EINTEGRITY|sha512-\S+ integrity checksum failed")
_UNREACHABLE = re.compile(
    r"ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNRESET|EHOSTUNREACH|ENETUNREACH|CERT_|\bE50\d"
)
_ABSENT = re.compile(r"\bE404\b|ETARGET|notarget|No matching version")


class _Packed(BaseModel):
    """What `npm pack --json` says of one package."""

    name: str
    version: str
    filename: str
    integrity: str


_PACKED = TypeAdapter(tuple[_Packed])


def choose(
    service: str, release: str, releases: Collection[str], folder: Path
) -> tuple[File, Path]:
    """Let npm fetch a release; return its record, and where it lies in the folder.

    Args:
        service: whose set it is for.
        release: name and exact version, as in `tool@1.2.3`.
        releases: all of the set, which may need each other.
        folder: an empty directory.

    Raises:
        RaveError: HOST if npm or its registry cannot be used; BUILD if there is no such release, it
            needs one that the set does not have, or what came is not what the registry's integrity
            hash says.
    """
    packed, path = pack(release, folder)
    package = read_package(path)
    there = {name_of(other) for other in releases}
    if missing := [name for name in needed(package) if name not in there]:
        raise _odd(release, f"it needs {', '.join(missing)}, which the set does not have")
    file = File(
        kind="npm",
        service=service,
        name=packed.name,
        version=packed.version,
        file=re.sub(r"[^0-9A-Za-z+._?=-]", "-", path.name),
        sha256=file_digest(path),
        licence=licence(package),
    )
    return file, path


def name_of(release: str) -> str:
    """Return the name of what is `tool@1.2.3` or, with a scope, `@team/tool@1.2.3`."""
    return release.rpartition("@")[0]


def download(wanted: File, folder: Path) -> None:
    """Let npm fetch a locked tarball into a folder.

    Raises:
        RaveError: as `choose`.
    """
    pack(f"{wanted.name}@{wanted.version}", folder)


def pack(release: str, folder: Path) -> tuple[_Packed, Path]:
    """Let npm fetch a release without running anything of it; compare it with its integrity hash.

    Raises:
        RaveError: as `choose`.
    """
    done = process.run(
        [process.require("npm"), "pack", "--json", "--loglevel=error", "--ignore-scripts",
         "--fetch-retries=1", "--fetch-retry-mintimeout=1000", f"--pack-destination={folder}",
         release],
        timeout=TIMEOUT, cwd=folder,
        env={name: value for name, value in os.environ.items()
             if name.lower().startswith("npm_config_")},
    )  # fmt: skip
    if not done.ok:
        raise fault(done, release)
    try:
        (packed,) = _PACKED.validate_json(done.text)
    except ValidationError as error:
        raise _odd(
            release, f"npm's answer is not understood ({error.errors()[0]['msg']})"
        ) from error
    # Older versions of npm name a scoped package's file otherwise than they write it.
    path = folder / packed.filename.removeprefix("@").replace("/", "-")
    if f"{packed.name}@{packed.version}" != release or not path.is_file():
        raise _odd(release, f"npm fetched {packed.name} {packed.version}")
    if not intact(path, packed.integrity):
        raise _tampered(release, ())
    return packed, path


def intact(path: Path, integrity: str) -> bool:
    """Return whether a file is what an integrity hash says (W3C Subresource Integrity, SHA-512)."""
    algorithm, _, value = integrity.partition("-")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha512").digest()
    return algorithm == "sha512" and value == base64.b64encode(found).decode()


def read_package(path: Path) -> dict[str, Any]:
    """Return what a tarball's package.json says.

    Raises:
        RaveError: BUILD if it holds none that can be read.
    """
    try:
        with tarfile.open(path) as archive:
            member = next(m for m in archive if re.fullmatch(r"[^/]+/package\.json", m.name))
            stream = archive.extractfile(member)
            data = stream.read(MOST_METADATA) if stream else b""
        document = json.loads(data)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, StopIteration, OSError) as error:
        raise _odd(path.name, f"it is not a package of npm ({error})") from error
    return document if isinstance(document, dict) else {}


def needed(package: dict[str, Any]) -> tuple[str, ...]:
    """Return what a package.json asks for and the tarball does not bring; what is optional is not
    needed.
    """
    asked = package.get("dependencies")
    brought = package.get("bundleDependencies", package.get("bundledDependencies"))
    if brought is True or not isinstance(asked, dict):
        return ()
    return tuple(sorted(asked.keys() - set(brought if isinstance(brought, list) else ())))


def licence(package: dict[str, Any]) -> str:
    """Return the licence that a package.json names; empty if it names none that fits in a line."""
    said = package.get("license")
    text = said if isinstance(said, str) else ""
    return text if text.isprintable() and len(text) <= LONGEST_LICENCE else ""


def fault(done: process.Completed, release: str) -> RaveError:
    """Return the error that npm's words stand for."""
    text = f"{done.error_text}\n{done.text}"
    if _MISMATCH.search(text):
        return _tampered(release, done.tail())
    message, hint, code = f"{release} could not be fetched by npm", "rave doctor", ExitCode.HOST
    if _SPACE.search(text):
        message = f"no space left while fetching {release}"
        hint = "df -h ~/.cache ~/.npm; npm cache clean --force   empties npm's own"
    elif _UNREACHABLE.search(text):
        message = f"{release} could not be fetched: the registry of npm does not answer"
        hint = "npm config get registry   (NPM_CONFIG_REGISTRY names another)"
    elif _ABSENT.search(text):
        message = f"the registry of npm has no {release}"
        hint = f"npm view {name_of(release)} versions   lists what it has"
        code = ExitCode.BUILD
    return RaveError(message, hint=hint, exit_code=code, detail=done.tail())


def _tampered(release: str, detail: tuple[str, ...]) -> RaveError:
    return RaveError(
        f"{release} is not what the registry of npm says that it is: its integrity hash differs",
        hint="npm cache verify; npm config get registry   (NPM_CONFIG_REGISTRY names another)",
        exit_code=ExitCode.BUILD,
        detail=detail,
    )


def _odd(what: str, why: str) -> RaveError:
    return RaveError(
        f"{what} cannot be taken into a set: {why}",
        hint=f"npm pack --dry-run {what}",
        exit_code=ExitCode.BUILD,
    )
