"""The record of a built image: what it is, how it boots, and whether it still is what was built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError


@dataclass(frozen=True)
class Boot:
    """How an image boots: by its own boot loader (`disk`) or with the kernel beside it."""

    kind: Literal["kernel", "disk"]
    kernel: Path | None
    initrd: Path | None
    cmdline: str


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        profile: what it carries.
        base: what it was assembled from.
        qcow2: the image file; read-only.
        sha256: of that file, in hex.
        size: of that file, in bytes.
        store_path: the Nix output it lies in.
        nar_hash: of that output.
        boot: how it boots.
        door: version of the door into its guest: which requests its programs understand.
    """

    profile: str
    base: str
    qcow2: Path
    sha256: str
    size: int
    store_path: str
    nar_hash: str
    boot: Boot
    door: int = 2

    def document(self) -> dict[str, Any]:
        """Return the image as JSON-ready values."""
        return json.loads(_Document.model_validate(self, from_attributes=True).model_dump_json())  # type: ignore[no-any-return]


class _BootDocument(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    kind: Literal["kernel", "disk"]
    kernel: Path | None
    initrd: Path | None
    cmdline: str


class _Document(BaseModel):
    """The manifest file, checked as it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    schema_version: Literal[1] = 1
    profile: str
    base: str
    qcow2: Path
    sha256: str
    size: int
    store_path: str
    nar_hash: str
    boot: _BootDocument


def load_image(manifest: Path) -> Image:
    """Return the image that a manifest describes.

    Raises:
        RaveError: HOST if there is none or it is not understood.
    """
    with paths.refusing(manifest):
        data = manifest.read_bytes()
    try:
        found = _Document.model_validate_json(data)
    except ValidationError as error:
        raise RaveError(
            f"{manifest} is not the manifest of an image",
            hint=f"rm {manifest}; then build the image again",
            exit_code=ExitCode.HOST,
            detail=tuple(str(error).splitlines()[:4]),
        ) from error
    values = dict(found)
    del values["schema_version"]
    return Image(**(values | {"boot": Boot(**dict(found.boot))}))


def save_image(image: Image, manifest: Path) -> None:
    """Write the manifest of an image.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    paths.atomic_write(manifest, json.dumps(image.document(), indent=2).encode() + b"\n")


def quick_check(image: Image) -> None:
    """Refuse an image of which a file is gone or cut short; costs nothing.

    Raises:
        RaveError: HOST, with the command that builds it again.
    """
    for path in (image.boot.kernel, image.boot.initrd):
        if path is not None and not path.is_file():
            raise _unfit(image, f"its file {path} is gone")
    try:
        size = image.qcow2.stat().st_size
    except OSError:
        raise _unfit(image, f"its file {image.qcow2} is gone") from None
    if size != image.size:
        raise _unfit(image, f"{image.qcow2} has {size} bytes instead of {image.size}")


def check_image(image: Image) -> None:
    """Refuse an image whose content is not what was built; reads all of it.

    Raises:
        RaveError: HOST, with the command that builds it again.
    """
    quick_check(image)
    found = sha256(image.qcow2)
    if found != image.sha256:
        raise _unfit(
            image, f"{image.qcow2} has sha256 {found[:12]}… instead of {image.sha256[:12]}…"
        )


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hex.

    Raises:
        RaveError: HOST if it cannot be read.
    """
    with paths.refusing(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unfit(image: Image, why: str) -> RaveError:
    return RaveError(
        f"the image of {image.profile} on {image.base} was altered after it was built: {why}",
        hint=f"rave vm build-image --profile {image.profile} --base {image.base} --repair",
        exit_code=ExitCode.HOST,
    )
