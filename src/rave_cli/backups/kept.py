"""What is known of a backup: the facts that its snapshot carries as tags.

A backup is two snapshots of the engine: the stream of what the machine keeps, and then, once all of
that is there, a short one that names it. Without the second it is no backup and is never listed.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from rave_cli.backups import tags
from rave_cli.backups.parts import LogPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION = "1"
MARK = "rave-backup"
STREAM = "/state"
FACTS = "/backup.json"
TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Backup:
    """A backup that is whole.

    Attributes:
        name: `<machine>-<moment>-<random>`, as it is named on the command line.
        machine: the machine's name; that of then if it is no more.
        instance: its instance id, which no other machine has.
        profile: what it was made from.
        base: the same.
        at: the moment that it is of, the first of its items' (UTC).
        until: the last of them.
        services: those that it has something of.
        size: bytes of what they keep.
        sha256: of the stream.
        stream: the engine's snapshot with it.
        snapshot: the engine's snapshot that names it; empty as long as there is none.
    """

    name: str
    machine: str
    instance: str
    profile: str
    base: str
    at: str
    until: str
    services: tuple[str, ...]
    size: int
    sha256: str
    stream: str
    snapshot: str = ""

    @property
    def moment(self) -> datetime:
        """When it was made."""
        return datetime.strptime(self.at, TIME).replace(tzinfo=UTC)

    @property
    def window(self) -> float:
        """Seconds from the first of its moments to the last."""
        last = datetime.strptime(self.until, TIME).replace(tzinfo=UTC)
        return (last - self.moment).total_seconds()

    def document(self) -> dict[str, Any]:
        """Return what is known of it, for JSON."""
        return {
            "name": self.name,
            "machine": self.machine,
            "instance": self.instance,
            "profile": self.profile,
            "base": self.base,
            "at": self.at,
            "until": self.until,
            "services": list(self.services),
            "bytes": self.size,
            "sha256": self.sha256,
            "stream": self.stream,
        }

    def tags(self) -> tuple[str, ...]:
        """Return it as the tags of a snapshot; the engine splits them at commas."""
        facts = self.document() | {"services": "+".join(self.services)}
        return tags.written(MARK, VERSION, facts)

    def text(self) -> bytes:
        """Return it as the file of that snapshot."""
        return json.dumps({"version": VERSION, **self.document()}, indent=2).encode() + b"\n"

    @classmethod
    def of(cls, snapshot: Mapping[str, Any]) -> Self | None:
        """Return the backup that a snapshot names; None if it names none."""
        facts = tags.facts_of(snapshot, MARK, VERSION)
        if facts is None:
            return None
        try:
            found = cls(
                name=facts["name"], machine=facts["machine"], instance=facts["instance"],
                profile=facts["profile"], base=facts["base"], at=facts["at"], until=facts["until"],
                services=tuple(filter(None, facts["services"].split("+"))),
                size=int(facts["bytes"]), sha256=facts["sha256"], stream=facts["stream"],
                snapshot=str(snapshot["id"]),
            )  # fmt: skip
            _ = found.moment, found.window
        except (KeyError, ValueError):
            return None
        return found


def new_name(machine: str, at: str) -> str:
    """Return a name for a backup of a machine."""
    return f"{machine}-{at.replace('-', '').replace(':', '')}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class KnownBackups:
    """What a repository holds: backups, the oldest first; snapshots that belong to none; and parts
    of logs.
    """

    backups: tuple[Backup, ...]
    broken: tuple[str, ...]
    logs: tuple[LogPart, ...] = ()

    @classmethod
    def of(cls, snapshots: Iterable[Mapping[str, Any]]) -> Self:
        """Read the engine's list."""
        listed = list(snapshots)
        logs = tuple(filter(None, map(LogPart.of, listed)))
        parts = {part.snapshot for part in logs}
        others = [entry for entry in listed if str(entry["id"]) not in parts]
        there = {str(entry["id"]): Backup.of(entry) for entry in others}

        def whole(backup: Backup) -> str | None:
            return next((name for name in there if name.startswith(backup.stream)), None)

        named = [(found, whole(found)) for found in there.values() if found is not None]
        good = sorted((found for found, stream in named if stream), key=lambda one: one.at)
        used = {found.snapshot for found in good} | {stream for _, stream in named if stream}
        return cls(tuple(good), tuple(sorted(set(there) - used)), logs)

    def called(self, names: Mapping[str, str]) -> Self:
        """Return them with the names that their machines have today, by instance."""
        backups = (
            replace(one, machine=names.get(one.instance, one.machine)) for one in self.backups
        )
        logs = (replace(one, machine=names.get(one.instance, one.machine)) for one in self.logs)
        return replace(self, backups=tuple(backups), logs=tuple(logs))

    def of_machine(self, machine: str | None) -> tuple[Backup, ...]:
        """Return the backups of one machine, or all."""
        return tuple(one for one in self.backups if machine in (None, one.machine))

    def logs_of(self, machine: str | None) -> tuple[LogPart, ...]:
        """Return the parts of logs of one machine, or all."""
        return tuple(one for one in self.logs if machine in (None, one.machine))
