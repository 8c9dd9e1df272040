"""What is in an image only because the operator has accepted it: for each service a lock of its own
that counts beside that of the profile.

So the lock of whoever accepts nothing, and with it the image, is the same as without any of this.
Docs: docs/adr/0071-applications-that-ask-first.md.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import sets
from rave_cli.images.lock import File, Release, Service  # noqa: TC001 - pydantic reads them
from rave_cli.records import DamagedRecordError, RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rave_cli.images.events import OnEvent
    from rave_cli.images.lock import Lock


class AcceptedRequest(BaseModel):
    """What was asked for: the flake's `acceptedRequests.<service>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tarballs: dict[Service, tuple[Release, ...]]


class AcceptedLock(BaseModel):
    """The files of one service.

    Attributes:
        requested: what they were chosen for.
        files: they.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requested: AcceptedRequest
    files: tuple[File, ...]


FORMAT = RecordFormat(
    title="the lock", shape=AcceptedLock, version=1, exit_code=ExitCode.BUILD,
)  # fmt: skip


def place(flake: Path, service: str) -> Path:
    """Return where the repository keeps the lock of a service that asks first."""
    return flake / "infra/debian/locks/accepted" / f"{service}.json"


def load(flake: Path, service: str) -> AcceptedLock:
    """Return the lock of a service.

    Raises:
        NewerRecordError: if a newer rave made it.
        DamagedRecordError: if it is no lock.
        RaveError: BUILD if there is none, or somebody else may have written it.
    """
    file, hint = place(flake, service), f"RAVE_ACCEPTED={service} rave vm lock-closure"
    if not file.is_file():
        raise RaveError(f"{service} has no lock ({file})", hint=hint, exit_code=ExitCode.BUILD)
    return FORMAT.parse(paths.read_trusted(file, exit_code=ExitCode.BUILD), file, hint=hint)


def known(flake: Path, service: str) -> AcceptedLock | None:
    """Return the lock of a service; None if there is none that can be read, to be made anew."""
    try:
        return load(flake, service) if place(flake, service).is_file() else None
    except DamagedRecordError:
        return None


def joined(lock: Lock, accepted: Iterable[AcceptedLock]) -> Lock:
    """Return a profile's lock with what is locked of these services."""
    for one in accepted:
        tarballs = {**lock.requested.tarballs, **one.requested.tarballs}
        lock = lock.model_copy(update={
            "files": lock.files + one.files,
            "requested": lock.requested.model_copy(update={"tarballs": tarballs}),
        })  # fmt: skip
    return lock


def whole(flake: Path, lock: Lock, services: Sequence[str]) -> Lock:
    """Return a profile's lock with that of each of these services.

    Raises:
        RaveError: as `load`.
    """
    return joined(lock, [load(flake, service) for service in services])


def choose(
    asked: AcceptedRequest, old: AcceptedLock | None, profile: Lock, pool: Path, on_event: OnEvent
) -> AcceptedLock:
    """Lock what a service asks for; what is locked stays while it answers that.

    Args:
        asked: what it asks for.
        old: the lock that it has; None to choose anew.
        profile: the lock beside which it counts.
        pool: where locked files lie.
        on_event: hears what happens.

    Raises:
        RaveError: HOST if npm or its registry cannot be used; BUILD if it has nothing as asked.
    """
    request = profile.requested.model_copy(update={"wheels": {}, "tarballs": asked.tarballs})
    kept = None if old is None else joined(profile, [old])
    return AcceptedLock(
        requested=asked, files=sets.choose(request, profile.packages, kept, pool, on_event)
    )


def render(lock: AcceptedLock) -> bytes:
    """Return the lock as JSON, one file per line."""
    document = lock.model_dump(exclude_defaults=True, mode="json")
    head = json.dumps({FORMAT.member: FORMAT.version, "requested": document["requested"]}, indent=2)
    lines = ",\n".join(f"    {json.dumps(file)}" for file in document["files"])
    return f'{head[:-2]},\n  "files": [\n{lines}\n  ]\n}}\n'.encode()
