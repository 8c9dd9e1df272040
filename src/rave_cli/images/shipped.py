"""An image as registries keep it: an OCI image that a container runtime can pull, too.

Its first layer is `/disk/IMAGE.qcow2` alone, which is what KubeVirt calls a containerDisk; its
second is `/rave/…`: what else the build's output holds, and what the image is. Both are written in
one way only, and what was written in another is refused: so nothing in them has to be believed, no
path and no size.

Source: OCI image spec 1.1; KubeVirt's user guide, "containerDisk" and "kernelBoot" (a container's
files are read as user 107, qemu).
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rave_cli.errors import RaveError
from rave_cli.images import carried
from rave_cli.images.build import find_data, read_boot
from rave_cli.images.lock import digest
from rave_cli.images.manifest import (
    DATA,
    Fingerprint,
    Image,
    NarHash,
    PlainName,
    Sha256,
)
from rave_cli.records import DamagedRecordError, NewerRecordError, RecordFormat
from rave_cli.registry.content import Content, Descriptor, of_bytes
from rave_cli.registry.manifest import Manifest, unknown
from rave_cli.shapes import AtLeast, Matches

if TYPE_CHECKING:
    from typing import BinaryIO

ARTIFACT = "application/vnd.rave.image.v1"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
SBOM = "application/vnd.cyclonedx+json"

# What a build's output may hold beside the disk. Debian's images boot with the kernel.
BESIDE = ("boot.json", DATA, "initrd", "lock.json", "plan.json", "vmlinuz")
DESCRIPTION = "image.json"
# Bytes of all that, and of the configuration.
MOST_BESIDE = 128 << 20
MOST_CONFIG = 1 << 20

_QEMU = 107
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True)
class ShippedImage:
    """What an image is, wherever it lies; fields as of Image.

    Attributes:
        name: of the disk's file.
    """

    profile: PlainName
    base: PlainName
    name: Annotated[str, Matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.qcow2")]
    sha256: Sha256
    size: Annotated[int, AtLeast(0)]
    store_path: str
    nar_hash: NarHash
    door: Annotated[int, AtLeast(1)]
    lock_sha256: Sha256 | None
    trusted_keys: tuple[Fingerprint, ...]


SHIPPED = RecordFormat(title="the description of the image", shape=ShippedImage, version=1)


@dataclass(frozen=True)
class Packed:
    """An image as it is pushed: its manifest, and the content of what that names."""

    manifest: Manifest
    contents: tuple[tuple[Content, Descriptor], ...]


def described(image: Image) -> ShippedImage:
    """Return what an image is; one that was pulled is what it was when it was pushed.

    Raises:
        RaveError: HOST if its description cannot be read.
    """
    place = Path(image.store_path) / DESCRIPTION
    if place.is_file():
        found = SHIPPED.read(place, hint="pull it again")
        if found.sha256 == image.sha256:
            return found
    return ShippedImage(
        image.profile, image.base, image.qcow2.name, image.sha256, image.size, image.store_path,
        image.nar_hash, image.door, image.lock_sha256, image.trusted_keys,
    )  # fmt: skip


def pack(image: Image) -> Packed:
    """Return an image as it is pushed; the same for the same image. Reads all of it.

    Raises:
        RaveError: HOST if a file cannot be read.
    """
    shipped = described(image)
    folder = Path(image.store_path)
    files = {name: folder / name for name in BESIDE if (folder / name).is_file()}
    if image.plan is not None:
        files[carried.NAME] = image.plan
    disk, beside = disk_layer(shipped, image.qcow2), beside_layer(shipped, files)
    layers = (disk.described(LAYER), beside.described(LAYER))
    config = of_bytes(_config(shipped, layers))
    named = config.described(CONFIG)
    manifest = Manifest(named, layers, ARTIFACT, annotations=_annotations(shipped))
    contents = ((config, named), (beside, layers[1]), (disk, layers[0]))
    return Packed(manifest, contents)


def disk_layer(shipped: ShippedImage, disk: Path) -> Content:
    """Return the layer with the disk."""
    before, after = _disk_frame(shipped)
    return Content((before, (disk, shipped.size), after))


def beside_layer(shipped: ShippedImage, files: dict[str, Path]) -> Content:
    """Return the layer with what is beside the disk."""
    description = SHIPPED.render(shipped)
    parts: list[bytes | tuple[Path, int]] = [_folder("rave")]
    parts += _member(f"rave/{DESCRIPTION}", description, len(description))
    for name in sorted(files):
        size = files[name].stat().st_size
        parts += _member(f"rave/{name}", (files[name], size), size)
    return Content((*parts, _END))


class DiskSink:
    """Takes the layer with the disk apart as it comes: the disk goes into a file.

    Args:
        shipped: what it must be.
        file: open for writing.
    """

    def __init__(self, shipped: ShippedImage, file: BinaryIO) -> None:
        self._shipped, self._file = shipped, file
        self._before, self._after = _disk_frame(shipped)
        self._at = 0
        self._digest = hashlib.sha256()

    @property
    def size(self) -> int:
        """Bytes of the whole layer."""
        return len(self._before) + self._shipped.size + len(self._after)

    @property
    def at(self) -> int:
        """How many of them were taken."""
        return self._at

    def take(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            RaveError: VERIFICATION if they are not what a push writes there.
        """
        disk_from = len(self._before)
        disk_to = disk_from + self._shipped.size
        start, end = self._at, self._at + len(piece)
        head = piece[: max(0, disk_from - start)]
        middle = piece[max(0, disk_from - start) : max(0, disk_to - start)]
        tail = piece[max(0, disk_to - start) :]
        behind = max(0, start - disk_to)
        if head != self._before[start : start + len(head)] or (
            tail != self._after[behind : behind + len(tail)]
        ):
            raise unknown("the disk's layer", "it is not written as rave writes it")
        self._digest.update(middle)
        self._file.write(middle)
        self._at = end

    def finish(self) -> None:
        """Refuse a disk that is not the one.

        Raises:
            RaveError: VERIFICATION.
        """
        if self._at != self.size or self._digest.hexdigest() != self._shipped.sha256:
            raise unknown("the disk", "its sha256 is not the one that the image says")


def unpack_beside(layer: Path, wanted: str, folder: Path) -> ShippedImage:
    """Take apart the layer with what is beside the disk; return what the image is.

    Args:
        layer: a file of at most MOST_BESIDE bytes.
        wanted: its digest, which what comes out of it must give again.
        folder: what is in it goes there.

    Raises:
        RaveError: VERIFICATION if it is not what a push writes; HOST if the folder cannot be
            written.
    """
    try:
        with tarfile.open(layer, "r:") as archive:
            files = _members(archive, folder)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise unknown("the layer beside the disk", "it cannot be unpacked") from error
    description = folder / DESCRIPTION
    if not description.is_file():
        raise unknown("the layer beside the disk", f"it holds no {DESCRIPTION}")
    try:
        shipped = SHIPPED.read(description, hint="push it again, with this rave")
    except DamagedRecordError as error:
        raise unknown("the image's description", error.message) from error
    if beside_layer(shipped, files).digest() != wanted:
        raise unknown("the layer beside the disk", "it is not written as rave writes it")
    return shipped


def _members(archive: tarfile.TarFile, folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    # Those, the description, the folder, and the end.
    for count in range(len(BESIDE) + 3):
        member = archive.next()
        if member is None:
            return files
        if count == 0 and member.isdir() and member.name == "rave":
            continue
        name = member.name.removeprefix("rave/")
        known = name in BESIDE or name == DESCRIPTION
        # A sparse one is larger than what holds it.
        plain = known and member.isreg() and not member.issparse()
        source = archive.extractfile(member) if plain else None
        if source is None or (folder / name).exists():
            break
        with (folder / name).open("xb") as target:
            while piece := source.read(1 << 20):
                target.write(piece)
        if name != DESCRIPTION:
            files[name] = folder / name
    raise unknown("the layer beside the disk", "it holds what no image of rave's does")


def require_one(manifest: Manifest, what: str) -> tuple[Descriptor, Descriptor]:
    """Return the layers of an image of rave's: the disk, and what is beside it.

    Raises:
        RaveError: VERIFICATION if it is another's.
    """
    fit = manifest.artifact_type == ARTIFACT and manifest.config.media_type == CONFIG
    if not fit or [layer.media_type for layer in manifest.layers] != [LAYER, LAYER]:
        raise unknown(what, "it is no image of rave's")
    disk, beside = manifest.layers
    if beside.size > MOST_BESIDE or manifest.config.size > MOST_CONFIG:
        raise unknown(what, "what is beside its disk is larger than any image of rave's has it")
    return disk, beside


def require_config(config: bytes, shipped: ShippedImage, manifest: Manifest) -> None:
    """Refuse a configuration that says something else of the image than the image does.

    Raises:
        RaveError: VERIFICATION.
    """
    if config != _config(shipped, manifest.layers):
        raise unknown("the image's configuration", "it is not written as rave writes it")


def placed(shipped: ShippedImage, folder: Path) -> Image:
    """Return the image in a folder in which it was unpacked.

    Raises:
        RaveError: VERIFICATION if what is beside the disk does not fit it.
    """
    plan, lock = folder / carried.NAME, folder / "lock.json"
    try:
        known = carried.read(plan) if plan.is_file() else None
        boot = read_boot(folder)
    except NewerRecordError:
        raise
    except RaveError as error:
        raise unknown("the image", error.message) from error
    if known is not None and (known.door, known.plan.profile, known.plan.base) != (
        shipped.door, shipped.profile, shipped.base,
    ):  # fmt: skip
        raise unknown("the image", "its plan is that of another")
    if shipped.lock_sha256 is not None and (
        not lock.is_file() or digest(lock.read_bytes()) != shipped.lock_sha256
    ):
        raise unknown("the image", "its lock is that of another")
    gone = [place for place in (boot.kernel, boot.initrd) if place and not place.is_file()]
    if gone:
        raise unknown("the image", f"it boots with {gone[0].name}, which it does not hold")
    return Image(
        profile=shipped.profile,
        base=shipped.base,
        qcow2=folder / shipped.name,
        sha256=shipped.sha256,
        size=shipped.size,
        store_path=str(folder),
        nar_hash=shipped.nar_hash,
        boot=boot,
        plan=None if known is None else plan,
        door=shipped.door,
        lock_sha256=shipped.lock_sha256,
        trusted_keys=shipped.trusted_keys,
        data=find_data(folder),
    )


def _config(shipped: ShippedImage, layers: tuple[Descriptor, ...]) -> bytes:
    """Return the configuration: no time in it, so that the same image is the same bytes."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": _annotations(shipped)},
        # Layers are not compressed, as the disk is already: their digests are those of the tars.
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _annotations(shipped: ShippedImage) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": f"rave {shipped.profile} on {shipped.base}",
        "org.opencontainers.image.version": shipped.sha256[:12],
        "io.rave.image.profile": shipped.profile,
        "io.rave.image.base": shipped.base,
        "io.rave.image.sha256": shipped.sha256,
    }


def _disk_frame(shipped: ShippedImage) -> tuple[bytes, bytes]:
    before = _folder("disk") + _header(f"disk/{shipped.name}", shipped.size)
    return before, bytes(-shipped.size % _BLOCK) + _END


def _member(name: str, part: bytes | tuple[Path, int], size: int) -> list[bytes | tuple[Path, int]]:
    return [_header(name, size), part, bytes(-size % _BLOCK)]


def _folder(name: str) -> bytes:
    found = tarfile.TarInfo(name)
    found.type, found.mode, found.uid, found.gid = tarfile.DIRTYPE, 0o755, _QEMU, _QEMU
    return found.tobuf(tarfile.GNU_FORMAT)


def _header(name: str, size: int) -> bytes:
    found = tarfile.TarInfo(name)
    found.size, found.mode, found.uid, found.gid = size, 0o444, _QEMU, _QEMU
    return found.tobuf(tarfile.GNU_FORMAT)
