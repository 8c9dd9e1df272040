"""Which lock counts: the repository's, or one of our own where its packages have left the archives.

Docs: docs/adr/0002-debian-closure.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import lock as locks
from rave_cli.images.closure import resolve
from rave_cli.images.events import BuildEvent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rave_cli.images.closure import Supply
    from rave_cli.images.events import OnEvent
    from rave_cli.images.lock import Lock

SHOWN_NAMES = 5


@dataclass(frozen=True)
class Chosen:
    """The lock that a build uses.

    Attributes:
        lock: the lock.
        path: where it lies.
        own: whether it stands in for the repository's, made here because packages had left the
            archives.
    """

    lock: Lock
    path: Path
    own: bool


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


def replace_lock(
    chosen: Chosen,
    original: Path,
    supply: Supply,
    departed: Sequence[str],
    on_event: OnEvent,
) -> Chosen:
    """Make a lock of our own, because packages of the chosen one have left the archives; say so.

    The checkout stays as it is: the lock lies in rave's state and counts until the repository's
    changes.

    Args:
        chosen: the lock that cannot be used any more.
        original: the repository's.
        supply: where packages come from.
        departed: names of what has left.
        on_event: hears what happens.

    Raises:
        RaveError: HOST if apt or the network fails; BUILD if somebody else may have written the
            repository's lock.
    """
    data = paths.read_trusted(original, exit_code=ExitCode.BUILD)
    profile = original.stem
    fresh = resolve(chosen.lock.requested, supply, on_event, old=chosen.lock)
    lock = fresh.model_copy(update={"replaces": locks.digest(data)})
    place = own_lock(profile)
    paths.atomic_write(place, locks.render(lock))
    changes = locks.difference(locks.parse(data, original), lock)
    on_event(BuildEvent(announcement(profile, departed, changes, place), notice=True))
    return replace(chosen, lock=lock, path=place, own=True)


def announcement(
    profile: str, departed: Sequence[str], changes: Sequence[locks.PackageChange], place: Path
) -> str:
    """Return what the user must know about a lock of our own: every change."""
    head = (
        f"lock updated: {_packages(len(departed))} of the repository's lock left the package"
        f" archives, so this image differs from the locked one in {_packages(len(changes))}"
    )
    tail = [
        f"    the lock used is {place}",
        f"    rave vm lock-closure --profile {profile}   writes a new one into the repository",
    ]
    return "\n".join([head, *(f"    {change}" for change in changes), *tail])


def refused(profile: str, departed: Sequence[str]) -> RaveError:
    """Return the error of a build that may only use the repository's lock."""
    names = ", ".join(departed[:SHOWN_NAMES])
    more = f" and {len(departed) - SHOWN_NAMES} more" if len(departed) > SHOWN_NAMES else ""
    return RaveError(
        f"the package archives no longer have what the lock names: {names}{more}",
        hint=f"rave vm lock-closure --profile {profile}   (or build without --locked, or set"
        " RAVE_DEBIAN_SNAPSHOT to a dated archive)",
        exit_code=ExitCode.BUILD,
    )


def _packages(count: int) -> str:
    return "1 package" if count == 1 else f"{count} packages"
