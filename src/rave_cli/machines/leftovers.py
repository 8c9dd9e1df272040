"""What dead machines and killed commands left behind: found, shown and removed.

Nothing of a machine that can be loaded is a leftover but the sockets of its last run.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.images import kept
from rave_cli.machines import generations, store, underway
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from rave_cli.machines.spec import NAME_RULE, Machine, machines_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a command leaves that was killed while it made a machine or removed one (store.py).
_BROKEN_OFF = re.compile(rf"\.(?P<what>new|old)-(?P<name>{NAME_RULE.pattern})\.\w+")

# A runtime directory (spec.locate); machines of all data directories share their parent.
_RUNTIME = re.compile(rf"(?P<name>{NAME_RULE.pattern})\.[0-9a-f]{{8}}")

# Seconds for which nothing must have happened in the runtime directory of a machine that is not of
# this data directory: a start elsewhere may be about to use it.
QUIET = 600.0


@dataclass(frozen=True)
class Leftover:
    """Something that nobody needs: `size` in bytes on this host's file systems, `machine` the name
    that it had or has.
    """

    kind: Literal["broken-off", "sockets", "image", "template", "previous", "set-aside"]
    place: Path
    why: str
    machine: str | None = None
    size: int = 0

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        return {
            "kind": self.kind,
            "place": str(self.place),
            "why": self.why,
            "machine": self.machine,
            "bytes": self.size,
        }


def find(*, images: bool, updates: bool = False) -> list[Leftover]:
    """Return all leftovers; with `images` also the images that no machine here is made from, with
    `updates` what machines were before their updates, and what was set aside.

    What another command is busy with, or what cannot be judged, is not among them.
    """
    found = [
        leftover
        for leftover in (*_broken_off(), *_sockets())
        if leftover.machine is not None and _idle(leftover.machine)
    ]
    found += _generations() if updates else []
    return [*found, *_images()] if images else found


def _idle(machine: str) -> bool:
    """Return whether no other command has the machine's lock."""
    try:
        with store.locked(machine):
            return True
    except RaveError:
        return False


def remove(leftover: Leftover) -> bool:
    """Remove a leftover; returns whether it was one still.

    Raises:
        RaveError: HOST if it cannot be removed, or another command is busy with it.
    """
    if leftover.kind == "image":
        if leftover not in _images():
            return False
        if kept.is_pulled(leftover.place):
            kept.remove_pulled(leftover.place)
        else:
            kept.forget(leftover.place.stem)
        return True
    if leftover.kind in ("previous", "set-aside"):
        return _remove_generation(leftover)
    with store.locked(leftover.machine or ""):
        again = _broken_off() if leftover.kind == "broken-off" else _sockets()
        if leftover.place not in [other.place for other in again]:
            return False
        with paths.refusing(leftover.place):
            shutil.rmtree(leftover.place)
    return True


def _generations() -> list[Leftover]:
    """Return what machines were before, and what rollbacks and failed updates set aside."""
    found = []
    for machine in store.list_machines():
        if not isinstance(machine, Machine) or (machine.directory / underway.NAME).exists():
            continue
        with suppress(RaveError):
            before = generations.previous(machine)
            aside = generations.set_aside(machine)
            found += [
                Leftover(
                    "previous" if kept is before else "set-aside",
                    kept.place,
                    f"machine {machine.name} was so, data and all, "
                    + (
                        f"before its last update; rave vm rollback {machine.name} needs it"
                        if kept is before
                        else "until it was put back"
                    ),
                    machine.name,
                    _size(kept.place),
                )
                for kept in (*([before] if before else []), *aside)
            ]
    return found


def _remove_generation(leftover: Leftover) -> bool:
    with underway.alone(leftover.machine or ""), store.locked(leftover.machine or ""):
        if leftover.place not in [other.place for other in _generations()]:
            return False
        found = generations.read(leftover.place)
        if found is not None:
            generations.forget(found)
    return True


def _broken_off() -> Iterator[Leftover]:
    for place in _entries(machines_dir()):
        found = _BROKEN_OFF.fullmatch(place.name)
        if found is not None:
            doing = "created" if found["what"] == "new" else "deleted"
            why = f"a command was killed while it {doing} machine {found['name']}"
            yield Leftover("broken-off", place, why, found["name"], _size(place))


def _sockets() -> Iterator[Leftover]:
    used = {process.runtime for process in processes.machines()}
    for place in _entries(paths.runtime_dir()):
        found = _RUNTIME.fullmatch(place.name)
        if found is None or place in used or place.lstat().st_uid != os.getuid():
            continue
        why = _unused(found["name"], place)
        if why is not None:
            yield Leftover("sockets", place, why, found["name"], _size(place))


def _unused(name: str, place: Path) -> str | None:
    """Return why nobody needs a runtime directory that no process uses, or None."""
    if name in stored_names():
        try:
            mine = store.load(name).runtime == place
        except RaveError:
            return None
        if mine:
            return f"machine {name} does not run"
    if time.time() - place.stat().st_mtime < QUIET:
        return None
    return f"no machine {name} has it any more"


def _images() -> list[Leftover]:
    machines = store.list_machines()
    known = [entry for entry in machines if isinstance(entry, Machine)]
    if len(known) < len(machines):
        # A machine whose record cannot be read may be made from any of them.
        return []
    used = {machine.spec.image.store_path for machine in known} | _kept_images(known)
    replaced = [
        Leftover("image", place, "no machine is made from it, and another has its place",
                 size=_size(place))
        for place in kept.unlinked()
        if str(place) not in used and time.time() - _touched(place) > QUIET
    ]  # fmt: skip
    return replaced + [
        Leftover(
            "image", place,
            f"no machine is made from {image.profile} on {image.base}"
            + (", which was pulled" if kept.is_pulled(Path(image.store_path)) else ""),
            size=image.size,
        )
        for place, image in kept.images()
        if image.store_path not in used
    ]  # fmt: skip


def _kept_images(known: list[Machine]) -> set[str]:
    """Return the images without which machines could not go back to what they were."""
    found: set[str] = set()
    for machine in known:
        for place in generations.places(machine):
            kept = generations.read(place)
            found |= {kept.spec.image.store_path} if kept is not None else set()
    return found


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(place for place in directory.iterdir() if place.is_dir())
    except OSError:
        return []


def _touched(directory: Path) -> float:
    """Return when something in a directory was last written: somebody may be filling it."""
    with suppress(OSError):
        return max(entry.lstat().st_mtime for entry in (directory, *directory.iterdir()))
    return time.time()


def _size(directory: Path) -> int:
    """Return the bytes that the files of a directory take on the disk."""
    found = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                found += (Path(folder) / name).lstat().st_blocks * 512
            except OSError:
                continue
    return found
