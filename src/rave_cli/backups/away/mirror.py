"""Keeps a copy of the folder of backups in another place, and gets it back.

What the engine writes has the sum of its content as its name (restic's design, "Repository
Layout"), and is never changed. So what is missing there is a difference of two lists; no key is
needed to see whether an object is what was written, there and on the way; and a copy that was ended
goes on where it was.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.backups.away.store import MissingError
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from rave_cli.backups.away.store import Store

    # Told how many bytes are done, of how many.
    Told = Callable[[int, int], None]

KEY = "key.sops.yaml"
README = "README"
REPOSITORY = "repository"
CONFIG = f"{REPOSITORY}/config"
# What one object of a folder may be called: nothing else is written, there or here.
NAMES = re.compile(
    rf"{re.escape(KEY)}|{README}|{REPOSITORY}/(?:config|(?:keys|index|snapshots)/[0-9a-f]{{64}}"
    r"|data/[0-9a-f]{2}/[0-9a-f]{64})"
)
SUM = re.compile(r"[0-9a-f]{64}")
# In this order a folder grows so that all that is named is there; it shrinks the other way round.
# Without its config it is no repository yet.
ORDER = (KEY, README, "keys", "data", "index", "snapshots", "config")
# How often a list is made anew because something of it was pruned meanwhile.
LISTED = 5


@dataclass(frozen=True)
class Compared:
    """A folder and its copy, or the other way round.

    Attributes:
        objects: what is kept, bytes by name.
        missing: names of what the other has not, in the order in which it is to be written.
        extra: names of what the other alone has, in the order in which it is to go.
    """

    objects: Mapping[str, int]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes that are missing."""
        return sum(self.objects[name] for name in self.missing)


def compared(here: Mapping[str, int], there: Mapping[str, int]) -> Compared:
    """Compare what is kept here with what is there."""
    known = {name: size for name, size in there.items() if NAMES.fullmatch(name)}
    missing = [name for name, size in here.items() if known.get(name) != size]
    extra = [name for name in known if name not in here]
    return Compared(
        here, tuple(sorted(missing, key=_turn)), tuple(sorted(extra, key=_turn, reverse=True))
    )


def _turn(name: str) -> tuple[int, str]:
    words = name.split("/")
    kind = words[1] if len(words) > 1 else words[0]
    return ORDER.index(kind), name


def listed(folder: Path) -> dict[str, int]:
    """Return what a folder has: bytes by name.

    Raises:
        RaveError: HOST if it cannot be read.
    """
    with paths.refusing(folder):
        return {name: size for name, size in _found(folder) if NAMES.fullmatch(name)}


def _found(folder: Path) -> Iterator[tuple[str, int]]:
    for place in folder.rglob("*"):
        if place.is_file() and not place.is_symlink():
            yield place.relative_to(folder).as_posix(), place.stat().st_size


def refuse_another(folder: Path, store: Store, there: Mapping[str, int], place: str) -> None:
    """Refuse a place that has the copy of another folder.

    Raises:
        RaveError: USAGE.
    """
    prefix = f"{REPOSITORY}/keys/"
    own = {name for name in listed(folder) if name.startswith(prefix)}
    keys = {name for name in there if name.startswith(prefix)}
    other = bool(own and keys) and not own & keys
    if CONFIG in there and (folder / CONFIG).exists() and not other:
        with paths.refusing(folder):
            other = store.get(CONFIG) != (folder / CONFIG).read_bytes()
    if other:
        raise RaveError(
            f"{place} has the copy of another folder of backups",
            hint="rave secrets edit   (backup-copy: place: …); rave backup fetch takes what is"
            " there into an empty folder",
            exit_code=ExitCode.USAGE,
        )


def send(folder: Path, store: Store, wanted: Compared, told: Told) -> None:
    """Write what is missing there.

    Raises:
        VanishedError: something was taken away here meanwhile.
        RaveError: VERIFICATION if something here is not what was written, which is not sent; as
            the place.
    """
    done = 0
    for name in wanted.missing:
        data = _read(folder, name)
        if not is_sound(name, data):
            raise damaged_here(folder, name)
        store.put(name, data)
        done += len(data)
        told(done, wanted.size)


def send_changed(folder: Path, store: Store, there: Mapping[str, int]) -> None:
    """Write what is written anew here now and then: the sealed key."""
    data = _read(folder, KEY)
    if KEY in there and store.get(KEY) != data:
        store.put(KEY, data)


def drop(store: Store, names: Iterable[str]) -> None:
    """Take away what is there alone.

    Raises:
        RaveError: as the place.
    """
    for name in names:
        store.remove(name)


@dataclass(frozen=True)
class CheckedCopy:
    """What was found: how many objects and bytes were read, which are not what was written (of
    these, those that were replaced), and which are not there.
    """

    objects: int
    size: int
    damaged: tuple[str, ...]
    mended: tuple[str, ...]
    missing: tuple[str, ...]


def check(folder: Path, store: Store, *, mend: bool, told: Told) -> CheckedCopy:
    """Read all that is there; with `mend` what is not what was written is replaced from the folder,
    if that has it whole.

    Raises:
        RaveError: as the place.
    """
    here = listed(folder)
    there = {name: size for name, size in store.listing().items() if NAMES.fullmatch(name)}
    damaged, mended, done, total = [], [], 0, sum(there.values())
    for name in sorted(there, key=_turn):
        try:
            data = store.get(name)
        except MissingError:
            data = b""
        if not _is_same(folder, name, data):
            damaged.append(name)
            if mend and _mended(folder, store, name):
                mended.append(name)
        done += there[name]
        told(done, total)
    missing = tuple(name for name in here if name not in there)
    return CheckedCopy(len(there), total, tuple(damaged), tuple(mended), missing)


def _is_same(folder: Path, name: str, data: bytes) -> bool:
    """Return whether an object is what was written: by its name, or else by the folder."""
    if SUM.fullmatch(name[-64:]):
        return is_sound(name, data)
    return not (folder / name).exists() or data == _read(folder, name)


def _mended(folder: Path, store: Store, name: str) -> bool:
    try:
        data = _read(folder, name)
    except VanishedError:
        return False
    if not is_sound(name, data):
        return False
    store.put(name, data)
    return True


@dataclass(frozen=True)
class FetchedCopy:
    """What came: objects and bytes, and the names of what is not what was written."""

    objects: int
    size: int
    damaged: tuple[str, ...]


def fetch(folder: Path, store: Store, there: Mapping[str, int], told: Told) -> FetchedCopy:
    """Write what the folder lacks. What is not what was written is left out, and told.

    Raises:
        RaveError: as the place; HOST if it cannot be written here.
    """
    wanted = compared({n: s for n, s in there.items() if NAMES.fullmatch(n)}, listed(folder))
    for name in ("data", "index", "keys", "locks", "snapshots"):
        paths.make_dir(folder / REPOSITORY / name)
    damaged, done = [], 0
    for name in wanted.missing:
        if name == KEY and (folder / KEY).exists():
            continue
        data = store.get(name)
        if is_sound(name, data):
            paths.atomic_write(folder / name, data, mode=0o600)
        else:
            damaged.append(name)
        done += len(data)
        told(done, wanted.size)
    return FetchedCopy(len(wanted.missing) - len(damaged), done, tuple(damaged))


class VanishedError(Exception):
    """Something of a folder was taken away since it was listed."""


def is_sound(name: str, data: bytes) -> bool:
    """Return whether an object is what its name says; of those that do not say it, true."""
    end = name[-64:]
    return not SUM.fullmatch(end) or hashlib.sha256(data).hexdigest() == end


def damaged_here(folder: Path, name: str) -> RaveError:
    """Return the error of an object of the folder that is not what was written."""
    return RaveError(
        f"{folder / name} is not what was written, and is not copied",
        hint="rave backup verify; what the other place has is older, and may be whole: rave backup"
        " copy --check",
        exit_code=ExitCode.VERIFICATION,
    )


def _read(folder: Path, name: str) -> bytes:
    with paths.refusing(folder / name):
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError:
            raise VanishedError(name) from None
