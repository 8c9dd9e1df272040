"""What changes between two images, and what speaks against giving one's data to the other."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.images import carried
from rave_cli.images import lock as locks
from rave_cli.images.build import LOCK

if TYPE_CHECKING:
    from rave_cli.images.lock import Lock, PackageChange
    from rave_cli.images.manifest import Image
    from rave_cli.profiles.catalog import Plan

# Debian's package of the server, whose number is the major release that its data are of.
SERVER = re.compile(r"postgresql-(\d+)")


@dataclass(frozen=True)
class DataDirectory:
    """A directory of the data disk as an image makes it; `filled` if something is in it already."""

    name: str
    uid: int
    gid: int
    mode: str
    filled: bool


@dataclass(frozen=True)
class MajorChange:
    """Major releases of PostgreSQL: of the data, and of the server that is to go on with them."""

    before: int
    after: int


@dataclass(frozen=True)
class ImageDifference:
    """What changes where one image takes another's place.

    Attributes:
        before: sha256 of the one, in hex.
        after: sha256 of the other.
        packages: those that differ; None where an image does not say what it holds.
        added: services that come.
        removed: services that go; what they keep stays on the data disk.
        secrets: those that only the other image's services need.
        databases: PostgreSQL's roles and databases that only the other's services need.
        server: the releases, where PostgreSQL's databases have to be dumped and loaded anew.
        obstacles: what speaks against it, a sentence for each.
        unknown: what could not be compared, for an image does not tell.
        older: whether the other's packages were chosen before the one's, as in an older checkout.
    """

    before: str
    after: str
    packages: tuple[PackageChange, ...] | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    server: MajorChange | None = None
    obstacles: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    older: bool = False

    @property
    def changed(self) -> bool:
        """Whether they are two images at all."""
        return self.before != self.after

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        packages = None if self.packages is None else [asdict(change) for change in self.packages]
        return {
            "from": self.before,
            "to": self.after,
            "changed": self.changed,
            "packages": packages,
            "services": {"added": list(self.added), "removed": list(self.removed)},
            "secrets": list(self.secrets),
            "databases": list(self.databases),
            "postgresql": None
            if self.server is None
            else {"from": self.server.before, "to": self.server.after},
            "obstacles": list(self.obstacles),
            "unknown": list(self.unknown),
            "older": self.older,
        }


def compare(old: Image, new: Image, *, keeps_data: bool = True) -> ImageDifference:
    """Return what changes from one image to another.

    Args:
        old: the one.
        new: the other.
        keeps_data: whether the other is to go on with the one's data as they are.

    Raises:
        RaveError: HOST or BUILD if a record of either is damaged or of a newer rave.
    """
    before, after = plan_of(old), plan_of(new)
    held, holds = _lock(old), _lock(new)
    packages = None if held is None or holds is None else locks.difference(held, holds)
    unknown = [] if packages is not None else ["packages"]
    obstacles: list[str] = []
    server = _majors(held, holds) if keeps_data else None
    if server is not None and not (cluster_of(old) and "postgresql" in loads(new)):
        obstacles.append(
            f"its data are of PostgreSQL {server.before}, which the {server.after} of the new image"
            " does not read"
        )
    if keeps_data:
        own, wanted = data_directories(old), data_directories(new)
        if own is None or wanted is None:
            unknown.append("owners of the data")
        obstacles += _owners(own or (), wanted or ())
    services = [set(plan.services) if plan else set() for plan in (before, after)]
    if before is None:
        unknown.append("plan")
    databases = _databases(after) - _databases(before) if before else set()
    if databases and keeps_data:
        obstacles.append(_lacking_databases(databases))
    return ImageDifference(
        before=old.sha256,
        after=new.sha256,
        packages=packages,
        added=tuple(sorted(services[1] - services[0])) if before else (),
        removed=tuple(sorted(services[0] - services[1])),
        secrets=tuple(sorted(_secrets(after) - _secrets(before))) if before else (),
        databases=tuple(sorted(databases)),
        server=server,
        obstacles=tuple(obstacles),
        unknown=tuple(unknown),
        older=_older(held, holds),
    )


def data_directories(image: Image) -> tuple[DataDirectory, ...] | None:
    """Return the directories with which an image's data begin; None of one that does not tell, or
    not as this rave knows it.
    """
    place = Path(image.store_path) / "boot.json"
    try:
        found = json.loads(paths.read_trusted(place))["data"]
        return tuple(DataDirectory(**entry) for entry in found)
    except (RaveError, ValueError, KeyError, TypeError):
        return None


def loads(image: Image) -> frozenset[str]:
    """Return the services of an image that take what another release of them has written of its
    data; none of one that does not tell.
    """
    place = Path(image.store_path) / "boot.json"
    try:
        return frozenset(map(str, json.loads(paths.read_trusted(place))["loads"]))
    except (RaveError, ValueError, KeyError, TypeError):
        return frozenset()


def cluster_of(image: Image) -> str | None:
    """Return the directory of PostgreSQL's cluster in machines of an image; None of one that does
    not tell.

    Raises:
        RaveError: HOST if its plan is damaged or of a newer rave.
    """
    plan = plan_of(image)
    service = None if plan is None else plan.services.get("postgresql")
    return None if service is None or service.state is None else service.state.path


def plan_of(image: Image) -> Plan | None:
    """Return the plan that an image carries; None of one from before images did.

    Raises:
        RaveError: HOST if it is damaged or of a newer rave.
    """
    return None if image.plan is None else carried.read(image.plan).plan


def _lock(image: Image) -> Lock | None:
    place = Path(image.store_path) / LOCK
    return locks.load(place)[0] if place.is_file() else None


def _older(before: Lock | None, after: Lock | None) -> bool:
    if before is None or after is None or not (before.resolved and after.resolved):
        return False
    return after.resolved < before.resolved


def _secrets(plan: Plan | None) -> set[str]:
    return set() if plan is None else set(plan.secrets)


def _databases(plan: Plan | None) -> set[str]:
    return set() if plan is None else {entry.role for entry in plan.databases}


def _majors(old: Lock | None, new: Lock | None) -> MajorChange | None:
    """Return the releases if PostgreSQL could not read its data any more."""
    before, after = _major(old), _major(new)
    if before is None or after is None or before == after:
        return None
    return MajorChange(before, after)


def _major(lock: Lock | None) -> int | None:
    names = [] if lock is None else [package.name for package in lock.packages]
    found = [int(match[1]) for name in names if (match := SERVER.fullmatch(name))]
    return max(found, default=None)


def _owners(old: tuple[DataDirectory, ...], new: tuple[DataDirectory, ...]) -> list[str]:
    """Return what speaks against it of whose the directories are: owners of files are numbers."""
    known = {entry.name: entry for entry in old}
    found = []
    for entry in new:
        before = known.get(entry.name)
        if before is not None and (before.uid, before.gid) != (entry.uid, entry.gid):
            found.append(
                f"what lies in /data/{entry.name} belongs to {before.uid}:{before.gid}, and the new"
                f" image's service is {entry.uid}:{entry.gid}"
            )
        if before is None and known and entry.filled:
            found.append(
                f"the new image's services want /data/{entry.name} with what only a new machine"
                " begins with"
            )
    return found


def _lacking_databases(databases: set[str]) -> str:
    return (
        "the new image's services want what its PostgreSQL does not have:"
        f" {', '.join(sorted(databases))}"
    )
