"""The templates that there are: each appears whole or not at all, and is never changed again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.stop import stop_process
from rave_cli.machines.templates.key import TemplateKey, differences
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORD = "template.json"
DISK, DATA, MEMORY, STATE = "disk.qcow2", "data.qcow2", "memory", "state"
# The data disk is there if its guest has one.
FILES = (DISK, DATA, MEMORY, STATE)

NAME = re.compile(r"[a-z0-9-]{1,50}-[0-9a-f]{12}")
DRAFT = re.compile(rf"\.(new|old)-(?P<name>{NAME.pattern})\.\w+")


@dataclass(frozen=True)
class TemplateFile:
    """A file of a template: its bytes, when it was last changed, in nanoseconds, and its sha256."""

    size: int
    changed: int
    sha256: str


@dataclass(frozen=True)
class TemplateRecord:
    """The content of template.json.

    Attributes:
        key: what it belongs to.
        qemu: version of the QEMU that it was made with.
        instance: what its guest calls itself until it is told another name.
        files: disk, memory and device state.
        since: seconds since the epoch when it was made.
        boot_seconds: how long its own boot took.
        services: how many services were healthy.
    """

    key: TemplateKey
    qemu: str
    instance: str
    files: dict[str, TemplateFile]
    since: float
    boot_seconds: float
    services: int

    @property
    def digest(self) -> str:
        """What names its content: sha256 over what it belongs to and what is in its files."""
        content = {
            "key": asdict(self.key),
            "files": {name: file.sha256 for name, file in self.files.items()},
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


TEMPLATE = RecordFormat(title="the record of a template", shape=TemplateRecord, version=1)


@dataclass(frozen=True)
class MachineTemplate:
    """A template that exists."""

    name: str
    place: Path
    record: TemplateRecord

    @property
    def disk(self) -> Path:
        """The frozen disk."""
        return self.place / DISK

    @property
    def data(self) -> Path | None:
        """The frozen data disk, if its guest has one."""
        return self.place / DATA if DATA in self.record.files else None

    @property
    def memory(self) -> Path:
        """The memory of its guest."""
        return self.place / MEMORY

    @property
    def state(self) -> Path:
        """The state of its devices."""
        return self.place / STATE

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        key = self.record.key
        return {
            "name": self.name,
            "digest": self.record.digest,
            "profile": key.profile,
            "base": key.base,
            "image": key.image,
            "qemu": self.record.qemu,
            "accelerator": key.accelerator,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.record.since)),
            "bootSeconds": round(self.record.boot_seconds, 3),
            "services": self.record.services,
            "bytes": size_of(self.place),
        }


def folder() -> Path:
    """Return the directory of all templates."""
    return paths.data_dir() / "templates"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a template's lock: nobody else makes or deletes it meanwhile.

    Raises:
        RaveError: HOST if another command holds it.
    """
    busy = f"another rave command is making or deleting the template {name}"
    with paths.lock(folder() / f".{name}.lock", busy=busy):
        yield


def names() -> list[str]:
    """Return the names of all templates, sorted."""
    try:
        return sorted(place.name for place in folder().iterdir() if NAME.fullmatch(place.name))
    except OSError:
        return []


def load(name: str) -> MachineTemplate:
    """Return a template.

    Raises:
        RaveError: USAGE if there is none of that name; HOST if its record is damaged or of a newer
            rave.
    """
    place = folder() / name
    if NAME.fullmatch(name) is None or not place.is_dir():
        raise RaveError(
            f"there is no template {name!r} (there are: {', '.join(names()) or 'none'})",
            hint="rave vm template list",
            exit_code=ExitCode.USAGE,
        )
    record = TEMPLATE.read(place / RECORD, hint=f"rave vm template delete {name}")
    return MachineTemplate(name, place, record)


def find(key: TemplateKey) -> MachineTemplate | None:
    """Return the template that belongs to a key, if it is there and unchanged.

    Raises:
        RaveError: HOST if its record is damaged, or one of its files was changed.
    """
    if not (folder() / key.name).is_dir():
        return None
    found = load(key.name)
    refuse_changed(found)
    if found.record.key != key:
        raise _changed(found.name, f"its record says that {differences(found.record.key, key)[0]}")
    return found


def why_none(key: TemplateKey) -> str:
    """Return why there is no template that belongs to a key: how the nearest one differs."""
    others: list[list[str]] = []
    for name in names():
        try:
            record = load(name).record
        except RaveError:
            continue
        if (record.key.profile, record.key.base) == (key.profile, key.base):
            others.append(differences(key, record.key))
    if not others:
        return f"there is no template of {key.profile} on {key.base}"
    nearest = min(others, key=len)
    return f"no template fits: {'; '.join(nearest)}"


def refuse_changed(template: MachineTemplate) -> None:
    """Refuse a template one of whose files is not as it was made, as far as size and time tell.

    Raises:
        RaveError: HOST.
    """
    for name, file in template.record.files.items():
        place = template.place / name
        paths.require_trusted(place)
        with paths.refusing(place):
            found = place.stat()
        if (found.st_size, found.st_mtime_ns) != (file.size, file.changed):
            raise _changed(template.name, f"its {name} is not as it was made")


def verify(template: MachineTemplate) -> None:
    """Read a whole template and compare it with what it was made as.

    Raises:
        RaveError: HOST if it differs.
    """
    refuse_changed(template)
    for name, file in template.record.files.items():
        if sha256(template.place / name) != file.sha256:
            raise _changed(template.name, f"its {name} has another content than it was made with")


def _changed(name: str, why: str) -> RaveError:
    return RaveError(
        f"template {name} was changed: {why}; nothing is started from it",
        hint=f"rave vm template delete {name}, and it is made anew; without --warm, machines boot",
        exit_code=ExitCode.HOST,
    )


def keep(draft: Path, name: str, record: TemplateRecord) -> MachineTemplate:
    """Put a draft in force, in the place of one that may be there. The caller holds the lock.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    TEMPLATE.write(draft / RECORD, record, mode=0o600)
    place = folder() / name
    with signals.held(), paths.refusing(place):
        if place.exists():
            place.rename(draft.with_name(draft.name.replace(".new-", ".old-", 1)))
        draft.rename(place)
        paths.sync_dir(folder())
    sweep(name)
    return MachineTemplate(name, place, record)


def delete(name: str) -> int:
    """Delete a template; returns the bytes that come back. Machines made from it keep what they
    need of it.

    Raises:
        RaveError: USAGE if there is none; HOST if it cannot be removed, or another command is busy
            with it.
    """
    if NAME.fullmatch(name) is None or not (folder() / name).is_dir():
        load(name)
    with locked(name):
        place = folder() / name
        size = size_of(place)
        with paths.refusing(place):
            # Once renamed it is gone for every other command, however long the rest takes.
            place.rename(place.with_name(f".old-{name}.{os.getpid()}"))
        sweep(name)
    return size


def sweep(name: str) -> None:
    """Remove what killed commands have left of a template, a running QEMU included. The caller
    holds the lock.

    Raises:
        RaveError: HOST if something cannot be removed.
    """
    for place in drafts(name):
        running = processes.find_by_directory(place)
        if running is not None:
            stop_process(running, (running.runtime or place) / "qmp.sock", patience=0.0)
            if running.runtime is not None and running.runtime.name.startswith("template."):
                shutil.rmtree(running.runtime, ignore_errors=True)
        grave = place.with_name(f".old-{name}.{secrets.token_hex(4)}")
        with paths.refusing(place):
            # What keeps its logs may be at work still: it makes no file where it cannot find it.
            place.rename(grave)
            shutil.rmtree(grave)


def drafts(name: str | None = None) -> list[Path]:
    """Return what killed commands have left, of one template or of all."""
    try:
        entries = sorted(folder().iterdir())
    except OSError:
        return []
    found = ((place, DRAFT.fullmatch(place.name)) for place in entries)
    return [place for place, m in found if m is not None and name in (None, m["name"])]


def file_of(place: Path) -> TemplateFile:
    """Return what is to be remembered of a file.

    Raises:
        RaveError: HOST if it cannot be read.
    """
    digest = sha256(place)
    with paths.refusing(place):
        found = place.stat()
    return TemplateFile(size=found.st_size, changed=found.st_mtime_ns, sha256=digest)


def sha256(place: Path) -> str:
    """Return the digest of a file.

    Raises:
        RaveError: HOST if it cannot be read.
    """
    with paths.refusing(place), place.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def size_of(directory: Path) -> int:
    """Return the bytes that the files of a template take on the disk."""
    found = 0
    for name in FILES:
        try:
            found += (directory / name).lstat().st_blocks * 512
        except OSError:
            continue
    return found
