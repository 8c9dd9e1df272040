"""The record of a built image: what it is, how it boots, and whether it still is what was built."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the record reads the annotations
from typing import Annotated, Any, Literal

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.records import Document, RecordFormat, amend
from rave_cli.shapes import AtLeast, Matches

# The plan's file, in an image's output and in a machine's directory.
PLAN = "plan.json"

# The file of the first data disk, in an image's output.
DATA = "data.qcow2"

NAR_HASH = r"^sha256-[A-Za-z0-9+/]{43}=$"

# What a transcript can say of an image; anything else is refused where it is read.
PlainName = Annotated[str, Matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")]
Sha256 = Annotated[str, Matches(r"[0-9a-f]{64}")]
NarHash = Annotated[str, Matches(NAR_HASH)]
# An OpenPGP key of version 4 (RFC 4880, 12.2).
Fingerprint = Annotated[str, Matches(r"[0-9A-F]{40}")]
CommandLine = Annotated[str, Matches(r"[ -~]*")]


@dataclass(frozen=True)
class BootMethod:
    """How an image boots: by its own boot loader (`disk`) or with the kernel beside it."""

    kind: Literal["kernel", "disk"]
    kernel: Path | None
    initrd: Path | None
    cmdline: CommandLine


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
        plan: the plan that it was made from, as images/carried.py reads it; None for an image from
            before images carried theirs.
        door: version of the door into its guest: which requests its programs understand.
        lock_sha256: of the lock of its packages, in hex; None if its output holds none, or one from
            before locks said whom they trust.
        trusted_keys: fingerprints of the archive keys that its build trusted beside the
            distribution's, sorted.
        data: the disk with which a machine's data begin, of which each gets a copy; None if what
            its services keep is on the system's disk.
    """

    profile: PlainName
    base: PlainName
    qcow2: Path
    sha256: Sha256
    size: Annotated[int, AtLeast(0)]
    store_path: str
    nar_hash: NarHash
    boot: BootMethod
    plan: Path | None = None
    door: Annotated[int, AtLeast(1)] = 2
    lock_sha256: Sha256 | None = None
    trusted_keys: tuple[Fingerprint, ...] = ()
    data: Path | None = None

    def document(self) -> dict[str, Any]:
        """Return the image as JSON-ready values."""
        return MANIFEST.document(self)


def give_plan(document: Document, place: str = "") -> Document:
    """Upgrade: images had no plan, and the first door. `place` is where the image stands."""
    return amend(amend(document, f"{place}plan", None), f"{place}door", 1)


def give_origin(document: Document, place: str = "") -> Document:
    """Upgrade: nobody noted what an image was assembled from. `place` is where the image stands."""
    return amend(amend(document, f"{place}lock_sha256", None), f"{place}trusted_keys", [])


def give_data(document: Document, place: str = "") -> Document:
    """Upgrade: no machine had a disk for its data. `place` is where the image stands."""
    return amend(document, f"{place}data", None)


MANIFEST = RecordFormat(
    title="the manifest",
    shape=Image,
    version=4,
    upgrades={1: give_plan, 2: give_origin, 3: give_data},
    member="schema_version",
)


def load_image(manifest: Path) -> Image:
    """Return the image that a manifest describes.

    Raises:
        NewerRecordError: if a newer rave made it.
        DamagedRecordError: if it is damaged.
        RaveError: HOST if there is none or it cannot be read.
    """
    hint = f"rave vm build-image   (writes {manifest.name} anew; the image is not built again)"
    return MANIFEST.read(manifest, hint=hint)


def save_image(image: Image, manifest: Path) -> None:
    """Write the manifest of an image.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    MANIFEST.write(manifest, image)


def quick_check(image: Image) -> None:
    """Refuse an image of which a file is gone or cut short; costs nothing.

    Raises:
        RaveError: HOST, with the command that builds it again.
    """
    for path in (image.boot.kernel, image.boot.initrd, image.data):
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
