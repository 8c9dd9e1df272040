"""Push an image to a registry, and pull one from there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import step
from rave_cli.images import build as builds
from rave_cli.images import kept, sbom, shipped
from rave_cli.images import lock as locks
from rave_cli.images.manifest import check_image, save_image
from rave_cli.registry import pushed
from rave_cli.registry.content import of_bytes, of_file
from rave_cli.registry.manifest import TITLE, unknown
from rave_cli.registry.reference import LATEST
from rave_cli.transcript import siblings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.images.manifest import Image
    from rave_cli.images.shipped import ShippedImage
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.registry.content import Content, Descriptor
    from rave_cli.registry.manifest import Manifest
    from rave_cli.registry.pushed import Pushed, Vouched
    from rave_cli.registry.repository import Repository
    from rave_cli.transcript import SigningKey
    from rave_cli.transcript.trust import TrustedKey

TRANSCRIPT = "application/vnd.rave.transcript.v1"
# Of a transcript's files, by what their names end with.
_TRANSCRIPT_TYPES = {
    ".dsse.json": pushed.ENVELOPE,
    ".ndjson": "application/x-ndjson",
    ".json": "application/json",
}


@dataclass(frozen=True)
class Pulled:
    """An image that was pulled, the digest of its manifest, and who has signed for it, if anybody
    was asked.
    """

    image: Image
    digest: str
    vouched: Vouched | None

    def document(self) -> dict[str, object]:
        """Return it as JSON-ready values."""
        signer = None if self.vouched is None else self.vouched.signer
        return self.image.document() | {"digest": self.digest, "signer": signer}


def push(
    image: Image,
    repository: Repository,
    key: SigningKey,
    *,
    transcript: Path | None,
    on_event: OnEvent,
) -> Pushed:
    """Push an image with its bill of materials, a transcript of it and a signed statement.

    Args:
        image: it.
        repository: where to; the reference's tag names it at last, when all the rest is there.
        key: signs that it was pushed.
        transcript: a transcript's document, of this image.
        on_event: told what happens.

    Raises:
        RaveError: HOST if the image was altered; VERIFICATION if the transcript is of another; as
            pushing.
    """
    require_tag(repository)
    with step(on_event, "push", f"Pushing {image.profile} on {image.base}") as doing:
        check_image(image)
        said = [] if transcript is None else _transcript(transcript, image)
        packed = shipped.pack(image)
        sent = send(repository, packed.contents, doing)
        subject = repository.put(packed.manifest)
        _attach_bill(repository, subject, image)
        if said:
            layers = tuple(layer for _, layer in said)
            about = pushed.artifact(subject, TRANSCRIPT, layers, {})
            repository.attach(about, tuple(content for content, _ in said))
        what = {
            "kind": "image", "name": f"{image.profile}-{image.base}", "sha256": image.sha256,
        }  # fmt: skip
        return conclude(repository, packed.manifest, subject, what, key=key, sent=sent)


def send(
    repository: Repository, contents: Sequence[tuple[Content, Descriptor]], doing: Step
) -> int:
    """Have all content there; return how many bytes had to be sent.

    Raises:
        RaveError: as pushing.
    """
    total = sum(descriptor.size for _, descriptor in contents)
    done = sent = 0
    for content, descriptor in contents:
        before = done

        def tell(there: int, before: int = before) -> None:
            doing.progress("sending", before + there, total)

        if repository.push(content, descriptor, tell):
            sent += descriptor.size
        done += descriptor.size
        doing.progress("sending", done, total)
    return sent


def conclude(
    repository: Repository, manifest: Manifest, subject: Descriptor, what: dict[str, str],
    *, key: SigningKey, sent: int,
) -> Pushed:  # fmt: skip
    """Sign that a manifest was pushed, and give it its tag.

    Raises:
        RaveError: as pushing.
    """
    place = pushed.vouch(repository, manifest, subject, what, key)
    repository.tag(manifest, repository.reference.tag or LATEST)
    total = sum(layer.size for layer in (manifest.config, *manifest.layers))
    return pushed.Pushed(repository.reference.at(subject.digest), what, sent, total, place)


def require_tag(repository: Repository) -> None:
    """Refuse to push to a digest, which follows from what is pushed.

    Raises:
        RaveError: USAGE.
    """
    if repository.reference.digest is not None:
        raise RaveError(
            "what is pushed has the digest that it has",
            hint="name a tag: oci://REGISTRY/REPOSITORY:TAG",
            exit_code=ExitCode.USAGE,
        )


def _attach_bill(repository: Repository, subject: Descriptor, image: Image) -> None:
    place = Path(image.store_path) / builds.LOCK
    if image.lock_sha256 is None or not place.is_file():
        return
    lock, data = locks.load(place)
    made = of_bytes(sbom.cyclonedx(lock, data, f"rave-{image.profile}-{image.base}"))
    layer = made.described(shipped.SBOM, {TITLE: f"{image.profile}-{image.base}.cdx.json"})
    repository.attach(pushed.artifact(subject, shipped.SBOM, (layer,), {}), (made,))


def _transcript(place: Path, image: Image) -> list[tuple[Content, Descriptor]]:
    """Return the files of a transcript of this image.

    Raises:
        RaveError: USAGE if it is none, or a file of it is missing; VERIFICATION if it is of another
            image.
    """
    files = siblings(place)
    every = [file for file in (files.document, files.events, files.dsse, files.sshsig) if file]
    missing = [file for file in every if not file.is_file()]
    if missing:
        raise RaveError(
            f"of the transcript {place.name} the file {missing[0].name} is missing",
            hint="rave smoke verify FILE --key KEY",
            exit_code=ExitCode.USAGE,
        )
    try:
        about = json.loads(paths.read_trusted(place))["image"]["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        about = None
    if about != image.sha256:
        raise RaveError(
            f"{place.name} is no transcript of this image",
            hint="rave smoke run; it says which image it was of",
            exit_code=ExitCode.VERIFICATION,
        )
    return [_file(file) for file in every]


def _file(place: Path) -> tuple[Content, Descriptor]:
    kind = next(
        (kind for end, kind in _TRANSCRIPT_TYPES.items() if place.name.endswith(end)),
        "application/octet-stream",
    )
    content = of_file(place, place.stat().st_size)
    return content, content.described(kind, {TITLE: place.name})


# --- pulling -------------------------------------------------------------------------------------


def pull(
    repository: Repository,
    catalog: Catalog,
    trusted: Sequence[TrustedKey] | None,
    *,
    on_event: OnEvent,
) -> Pulled:
    """Pull an image: it is there whole, or not at all. What there is of it is not pulled again.

    Args:
        repository: where from.
        catalog: knows the profiles.
        trusted: keys of which one must have signed that it was pushed; None asks nobody.
        on_event: told what happens.

    Raises:
        RaveError: VERIFICATION if it is no image of rave's, or not what its digests say; USAGE if
            there is none, or none of such a profile; HOST if it cannot be written; as asking.
        RefusedError: no trusted key has signed for it.
    """
    with step(on_event, "pull", f"Pulling {repository.reference}") as doing:
        manifest, subject = repository.manifest()
        disk, beside = shipped.require_one(manifest, str(repository.reference))
        vouched = None if trusted is None else pushed.vouched(repository, subject, trusted)
        with _staging() as folder:
            what = _fetch_beside(repository, manifest, beside, folder)
            place = builds.ImagePlace(catalog.plan(what.profile, what.base).attr)
            shipped.placed(what, folder)
            final = kept.pulled() / f"{place.attr}-{subject.digest.removeprefix('sha256:')[:16]}"
            if not _whole(what, final):
                _fetch_disk(repository, what, disk, folder, doing)
            with paths.lock(place.lock, busy=f"the image {place.attr} is being built"):
                if (folder / what.name).exists():
                    _settle(folder, final)
                image = shipped.placed(what, final)
                save_image(image, place.manifest)
                _link(place.out_link, final)
        return Pulled(image, subject.digest, vouched)


@contextmanager
def _staging() -> Iterator[Path]:
    """Yield a folder that is gone afterwards, unless it was renamed."""
    above = paths.private_dir(kept.pulled())
    with paths.refusing(above):
        folder = Path(tempfile.mkdtemp(dir=above, prefix=".pull-"))
    try:
        with paths.refusing(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch_beside(
    repository: Repository, manifest: Manifest, layer: Descriptor, folder: Path
) -> ShippedImage:
    config = bytearray()
    repository.pull(manifest.config, config.extend)
    packed = folder / ".beside"
    with packed.open("xb") as file:
        repository.pull(layer, file.write)
    found = shipped.unpack_beside(packed, layer.digest, folder)
    packed.unlink()
    shipped.require_config(bytes(config), found, manifest)
    return found


def _fetch_disk(
    repository: Repository, what: ShippedImage, layer: Descriptor, folder: Path, doing: Step
) -> None:
    place, free = folder / what.name, shutil.disk_usage(folder).free
    if layer.size > free:
        raise RaveError(
            f"the disk has {layer.size >> 20} MiB, and {folder.parent} has room for {free >> 20}",
            hint=f"df -h {folder.parent}; rave vm prune --images --dry-run",
            exit_code=ExitCode.HOST,
        )
    with place.open("xb") as file:
        sink = shipped.DiskSink(what, file)
        if sink.size != layer.size:
            raise unknown("the disk's layer", "it is not as large as the image says")
        repository.pull(layer, _telling(sink, doing))
        sink.finish()
        file.flush()
        os.fsync(file.fileno())


def _telling(sink: shipped.DiskSink, doing: Step) -> Callable[[bytes], None]:
    def take(piece: bytes) -> None:
        sink.take(piece)
        doing.progress("fetching", sink.at, sink.size)

    return take


def _whole(what: ShippedImage, final: Path) -> bool:
    """Return whether an image is there already; machines may run from it."""
    try:
        check_image(shipped.placed(what, final))
    except RaveError:
        return False
    return True


def _settle(folder: Path, final: Path) -> None:
    """Give a folder that is whole its name."""
    for place in folder.iterdir():
        place.chmod(0o444)
        with place.open("rb") as file:
            os.fsync(file.fileno())
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)
    paths.sync_dir(final.parent)


def _link(link: Path, target: Path) -> None:
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
