"""The Debian closure: its files in the cache, and a new lock of what the archives offer today.

Docs: docs/adr/0002-debian-closure.md.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import archives, debs, files, sets
from rave_cli.images.apt import Apt, file_name
from rave_cli.images.archives import Sources
from rave_cli.images.events import BuildEvent
from rave_cli.images.lock import Lock, Package, PackageRequest, Role, file_digest
from rave_cli.images.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rave_cli.images.apt import Selected
    from rave_cli.images.archives import MirrorAddress
    from rave_cli.images.events import OnEvent
    from rave_cli.images.lock import Archive

# What apt calls Debian's minimum. usr-is-merged keeps the script that merges /usr later out.
ESSENTIAL = ("?essential", "usr-is-merged")


class DepartedError(Exception):
    """The package archives no longer have these versions of the lock."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


@dataclass(frozen=True)
class Supply:
    """Where a build gets packages from.

    Attributes:
        keys: directory of the archive keys that the repository ships.
        sources: what the operator says.
    """

    keys: Path
    sources: Sources = field(default_factory=Sources)

    @classmethod
    def of(cls, flake: Path, sources: Sources) -> Supply:
        """Return the supply for images of a checkout."""
        return cls(flake / "infra/debian/keys", sources)

    def apt(self, request: PackageRequest) -> Apt:
        """Return apt for the archives of a request, as they are today.

        Raises:
            RaveError: HOST if a key is not at hand, or the lock names no archives; USAGE if a
                setting is not understood.
        """
        return self._apt(request, archives.addresses(request.archives, self.sources), "apt")

    def current(self, lock: Lock) -> Apt | Mirror:
        """Return the archives of a lock as they are today.

        Raises:
            RaveError: as `apt`.
        """
        named = lock.requested.archives
        places = archives.addresses(named, self.sources)
        return self._mirror(named, places) or self.apt(lock.requested)

    def snapshot(self, lock: Lock) -> Apt | Mirror | None:
        """Return the archives as they were when the lock was made, if that can be had.

        Raises:
            RaveError: as `apt`.
        """
        if not self.sources.snapshot or not lock.resolved:
            return None
        named = lock.requested.archives
        places = archives.dated(named, self.sources.snapshot, lock.resolved)
        return self._mirror(named, places) or self._apt(
            lock.requested, places, "apt-dated", aged=True
        )

    @property
    def trusted(self) -> tuple[str, ...]:
        """Fingerprints that the operator trusts beside the distribution's."""
        return archives.load_keys(self.keys, self.sources.keyring)[1]

    def _mirror(
        self, named: Sequence[Archive], places: Mapping[str, MirrorAddress]
    ) -> Mirror | None:
        """Return the archives as they are read on a host that has no apt; None if it has."""
        if process.find("apt-get") is not None:
            return None
        suites = tuple(
            (places[a.name].uri, suite, component)
            for a in named
            for suite in a.suites
            for component in a.components
        )
        return Mirror(suites, _told(places))

    def _apt(
        self,
        request: PackageRequest,
        places: Mapping[str, MirrorAddress],
        name: str,
        *,
        aged: bool = False,
    ) -> Apt:
        if not request.archives:
            raise RaveError(
                "the lock was made by an older rave and does not say which archives to ask",
                hint="rave vm lock-closure --profile PROFILE",
                exit_code=ExitCode.BUILD,
            )
        archives.kept_apart(request.archives, places)
        keys, trusted = archives.load_keys(self.keys, self.sources.keyring)
        return Apt(
            home=paths.cache_dir() / "debian" / name,
            sources=archives.stanzas(request.archives, places, keys, trusted),
            where=_told(places),
            aged=aged,
            preferences=archives.preferences(request.archives),
        )


def _told(places: Mapping[str, MirrorAddress]) -> str:
    return "; ".join(f"{place.uri} ({place.origin})" for place in places.values())


def pool() -> Path:
    """Return the directory of locked files, named as in the locks."""
    return paths.cache_dir() / "debian" / "pool"


def fetch(lock: Lock, supply: Supply, on_event: OnEvent) -> tuple[Path, ...]:
    """Return every file of a lock, verified; what the cache lacks is downloaded.

    Raises:
        DepartedError: no archive has a version any more, the dated one included if there is one.
        RaveError: HOST if apt or the network fails; BUILD if an archive has other content.
    """
    on_event(BuildEvent("checking the package cache"))
    missing = [package for package in lock.packages if not _has(package)]
    if missing:
        try:
            _download(missing, supply.current(lock), on_event)
        except DepartedError:
            dated = supply.snapshot(lock)
            if dated is None:
                raise
            on_event(
                BuildEvent(f"packages have left the mirror: asking {dated.where}", notice=True)
            )
            _download(missing, dated, on_event)
    return (
        *(pool() / package.file for package in lock.packages),
        *files.provide(lock.files, lock.packages, pool(), on_event),
    )


def resolve(
    request: PackageRequest,
    supply: Supply,
    on_event: OnEvent,
    *,
    old: Lock | None = None,
    renew: bool = False,
) -> Lock:
    """Let apt choose and download the current packages for a request, and return their lock.

    Args:
        request: what is asked for.
        supply: where Debian's packages come from.
        on_event: hears what happens.
        old: a lock whose sets of wheels and tarballs stay, where they still are what is asked for;
            what is not in it is chosen by pip and npm.
        renew: choose all sets anew.

    Raises:
        RaveError: HOST if apt, pip, npm or the network fails; BUILD if there is no set as asked.
    """
    apt = supply.apt(request)
    packages, epoch = [], 0
    with _download_folder() as target:
        on_event(BuildEvent("fetching package lists"))
        apt.update()
        resolved = datetime.now(UTC)
        on_event(BuildEvent("choosing packages"))
        chosen = choose_packages(request, apt)
        _gather([selected for selected, _ in chosen], apt, target, on_event)
        for selected, role in chosen:
            path = pool() / store_name(selected)
            epoch = max(epoch, build_time(path))
            packages.append(_package(selected, role, path))
    known = old.packages if old else ()
    kept = None if renew else old
    return Lock(
        epoch=epoch,
        resolved=f"{resolved:%Y%m%dT%H%M%SZ}",
        trusted=supply.trusted,
        requested=request,
        packages=debs.with_descriptions(packages, known, pool(), on_event),
        files=(*files.programs(), *sets.choose(request, packages, kept, pool(), on_event)),
    )


def choose_packages(request: PackageRequest, apt: Apt) -> list[tuple[Selected, Role]]:
    """Return what a request comes to, with roles, in apt's order of installation."""
    essential = {s.name for s in apt.select(ESSENTIAL)}
    guest = apt.select([*ESSENTIAL, *request.guest])
    kernel = [s for s in apt.select([request.kernel]) if re.match(r"linux-image-\d", s.name)]
    tools = [s for s in apt.select(request.tools) if s.name in request.tools]
    chosen: list[tuple[Selected, Role]] = []
    chosen += [(s, "essential" if s.name in essential else "guest") for s in guest]
    chosen += [(s, "kernel") for s in kernel[:1]]
    chosen += [(s, "tool") for s in tools]
    return chosen


def store_name(selected: Selected) -> str:
    """Return a package's file name in the characters that the Nix store allows."""
    plain = f"{selected.name}_{selected.version}_{selected.architecture}.deb"
    return re.sub(r"[^0-9A-Za-z+._?=-]", "-", plain)


def build_time(deb: Path) -> int:
    """Return when a package was built, in seconds: the time stamp of its first ar member (deb(5)).

    Raises:
        RaveError: BUILD if the file is not a Debian package.
    """
    with deb.open("rb") as stream:
        head = stream.read(36)
    if not head.startswith(b"!<arch>\ndebian-binary"):
        raise RaveError(
            f"{deb.name} is not a Debian package", hint=f"rm {deb}", exit_code=ExitCode.BUILD
        )
    return int(head[24:36])


def _has(package: Package) -> bool:
    path = pool() / package.file
    return path.is_file() and file_digest(path) == package.sha256


def _gather(chosen: Sequence[Selected], apt: Apt, target: Path, on_event: OnEvent) -> None:
    """Bring packages into the pool; what is there as the signed lists have it is not downloaded.

    Raises:
        DepartedError: a version left while we looked.
        RaveError: HOST if apt or the network fails.
    """
    digests = apt.digests([(s.name, s.version) for s in chosen])
    absent = [s for s in chosen if not _as_listed(s, digests.get(_saved_as(s)))]
    if not absent:
        return
    departed = apt.download([(s.name, s.version) for s in absent], target, on_event)
    if departed:
        raise DepartedError(departed)
    for selected in absent:
        (target / _saved_as(selected)).replace(pool() / store_name(selected))


def _saved_as(selected: Selected) -> str:
    return file_name(selected.name, selected.version, selected.architecture)


def _as_listed(selected: Selected, sha256: str | None) -> bool:
    path = pool() / store_name(selected)
    return path.is_file() and file_digest(path) == sha256


def _package(selected: Selected, role: Role, path: Path) -> Package:
    return Package(
        name=selected.name,
        version=selected.version,
        architecture=selected.architecture,
        file=store_name(selected),
        sha256=file_digest(path),
        role=role,
        security=selected.security,
    )


def _download(missing: Sequence[Package], source: Apt | Mirror, on_event: OnEvent) -> None:
    """Download packages into the pool."""
    with _download_folder() as target:
        if isinstance(source, Mirror):
            departed = source.download(missing, target, on_event)
        else:
            departed = _by_apt(missing, source, target, on_event)
        if departed:
            raise DepartedError(departed)
        for package in missing:
            _keep(package, target)


def _by_apt(
    missing: Sequence[Package], apt: Apt, target: Path, on_event: OnEvent
) -> tuple[str, ...]:
    """Download packages by apt; return the names of those that have left.

    Lists that were fetched before may do, which saves seconds; if they do not, because they are too
    new or too old for the lock or for the mirrors, they are fetched again.
    """
    wanted = [(package.name, package.version) for package in missing]
    if apt.updated and _try_download(wanted, apt, target, on_event):
        return ()
    on_event(BuildEvent("fetching package lists"))
    apt.update()
    return apt.download(wanted, target, on_event)


def _try_download(
    wanted: Sequence[tuple[str, str]], apt: Apt, target: Path, on_event: OnEvent
) -> bool:
    """Return whether the download succeeds with the lists as they are."""
    try:
        return not apt.download(wanted, target, on_event)
    except RaveError:
        return False


def _keep(package: Package, folder: Path) -> None:
    """Move a downloaded package into the pool if it is the locked one."""
    path = folder / file_name(package.name, package.version, package.architecture)
    if not path.is_file() or file_digest(path) != package.sha256:
        raise RaveError(
            f"the package archive's {package.name} {package.version} is not the locked file",
            hint="compare the lock with git log -- infra/debian/locks before you trust the archive",
            exit_code=ExitCode.BUILD,
        )
    path.replace(pool() / package.file)


@contextmanager
def _download_folder() -> Iterator[Path]:
    """Provide a directory beside the pool's files for one rave's downloads.

    What interrupted downloads left is removed first.
    """
    folder = pool()
    with paths.lock(folder.parent / "lock", busy="another rave downloads Debian packages just now"):
        paths.make_dir(folder, mode=0o755)
        with paths.refusing(folder):
            for stale in folder.glob(".download-*"):
                shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as name:
            yield Path(name)
