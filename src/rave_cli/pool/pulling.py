"""Pull what a job left from a registry: checked against its proof, if somebody is trusted.

Nothing in a registry is believed: paths are taken apart, sizes are counted as they come, and the
folder is there whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import step
from rave_cli.pool import proof
from rave_cli.pool.files.artifacts import LONGEST_PATH, MOST_FILES
from rave_cli.pool.jobs.job import Artifact
from rave_cli.pool.pushing import ARTIFACT, FILE, PROOF
from rave_cli.registry import pushed
from rave_cli.registry.content import digest_of
from rave_cli.registry.manifest import EMPTY, TITLE, unknown
from rave_cli.text import cell
from rave_cli.transcript import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.pool.proof import ToldJob
    from rave_cli.registry.content import Descriptor
    from rave_cli.registry.manifest import Manifest
    from rave_cli.registry.repository import Repository
    from rave_cli.transcript.trust import TrustedKey


@dataclass(frozen=True)
class PulledArtifacts:
    """What was pulled, the digest of its manifest, and what its proof says, if that was asked."""

    reference: str
    artifacts: tuple[Artifact, ...]
    told: ToldJob | None

    def document(self) -> dict[str, object]:
        """Return it as JSON-ready values."""
        return {
            "reference": self.reference,
            "artifacts": [asdict(one) for one in self.artifacts],
            "job": self.told and self.told.name,
            "result": self.told and self.told.result,
            "signer": self.told and self.told.signer,
        }


def pull(
    repository: Repository,
    target: Path,
    trusted: tuple[TrustedKey, ...] | None,
    *,
    on_event: OnEvent,
) -> PulledArtifacts:
    """Pull what a job left into a folder that is not there yet.

    Args:
        repository: where from.
        target: the folder.
        trusted: keys of which one must have signed the job's proof; None asks for none.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if the folder is there, or there is nothing of that name; VERIFICATION if
            it is not what a job left, or not what its digests say; HOST if it cannot be written;
            as asking.
        RefusedError: there is no proof of it that a trusted key has signed.
    """
    if os.path.lexists(target):
        raise RaveError(
            f"{target} is there already",
            hint="name a folder that is to be made",
            exit_code=ExitCode.USAGE,
        )
    with step(on_event, "pull", f"Pulling {repository.reference}") as doing:
        manifest, subject = repository.manifest()
        left = left_of(manifest, str(repository.reference))
        told = None if trusted is None else _told(repository, subject, left, trusted)
        with _staging(target) as folder:
            for one, layer in zip(left, manifest.layers, strict=True):
                _fetch(repository, layer, folder / one.path, doing)
            folder.rename(target)
            paths.sync_dir(target.parent)
        return PulledArtifacts(str(repository.reference.at(subject.digest)), left, told)


def left_of(manifest: Manifest, what: str) -> tuple[Artifact, ...]:
    """Return the files that a manifest names.

    Raises:
        RaveError: VERIFICATION if it is not of what a job left, or names one that cannot be.
    """
    if manifest.artifact_type != ARTIFACT or manifest.config.media_type != EMPTY:
        raise unknown(what, "it is not what a job left")
    if len(manifest.layers) > MOST_FILES:
        raise unknown(what, f"it names more than {MOST_FILES} files")
    found = tuple(
        Artifact(layer.annotations.get(TITLE, ""), layer.size, layer.digest.removeprefix("sha256:"))
        for layer in manifest.layers
    )
    names = {one.path for one in found}
    folders = {str(parent) for name in names for parent in Path(name).parents}
    if len(names) < len(found) or names & folders or not all(map(_sound, names)):
        raise unknown(what, "it names a file as no job's is named")
    if any(layer.media_type != FILE for layer in manifest.layers):
        raise unknown(what, "it holds something of another media type")
    return found


def _sound(path: str) -> bool:
    """Return whether a path leads to a file below a folder, and can be shown as it is."""
    parts = path.split("/")
    plain = cell(path) == path and len(path) <= LONGEST_PATH
    return plain and not {"", ".", ".."} & set(parts) and max(map(len, parts)) < 256


def _told(
    repository: Repository,
    subject: Descriptor,
    left: tuple[Artifact, ...],
    trusted: tuple[TrustedKey, ...],
) -> ToldJob:
    """Return what a proof beside it says, which a trusted key has signed, of exactly this."""
    vouched = pushed.vouched(repository, subject, trusted)
    for entry in repository.referrers(subject.digest, PROOF)[: pushed.MOST]:
        envelope = pushed.envelope_of(repository, entry, proof.LARGEST)
        if envelope is None or digest_of(envelope) != vouched.what.get("proof"):
            continue
        told = proof.told(envelope, trusted)
        if sorted(map(str, told.artifacts)) != sorted(map(str, left)):
            raise RefusedError(Reason.MISMATCH, f"it is not what job {told.name} left")
        return told
    raise RefusedError(
        Reason.MISSING,
        "there is no proof of the job beside what it left",
        hint="push it again, from the pool that had the job",
    )


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    above = target.absolute().parent
    with paths.refusing(above):
        folder = Path(tempfile.mkdtemp(dir=paths.make_dir(above), prefix=".pull-"))
    try:
        with paths.refusing(target):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fetch(repository: Repository, layer: Descriptor, place: Path, doing: Step) -> None:
    free = shutil.disk_usage(paths.make_dir(place.parent)).free
    if layer.size > free:
        raise RaveError(
            f"{place.name} has {layer.size >> 20} MiB, and there is room for {free >> 20}",
            hint=f"df -h {place.parent}",
            exit_code=ExitCode.HOST,
        )
    doing.progress(f"fetching {place.name}")
    with place.open("xb") as file:
        repository.pull(layer, file.write)
