"""Parts of PostgreSQL's write-ahead log, as the facts that their snapshots carry as tags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from rave_cli.backups import tags

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "1"
MARK = "rave-log"
FILE = "/log"
SERVICE = "postgresql"
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
CHAIN = re.compile(r"[0-9a-f]{16}")
LSN = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})")
# Bytes at the end of a part by which the guest knows its own log again (rave_guest/state/log.py).
TAIL = 64


def place_of(text: str) -> int:
    """Return a place in a log (an LSN) as the number of bytes before it.

    Raises:
        ValueError: it is none.
    """
    found = LSN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no place in a log")
    return (int(found[1], 16) << 32) + int(found[2], 16)


def told(place: int) -> str:
    """Return a place in a log as PostgreSQL writes it."""
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"


def moment_of(text: str) -> datetime:
    """Return a moment as a guest tells it.

    Raises:
        ValueError: it is none.
    """
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)


@dataclass(frozen=True)
class LogPart:
    """A part of a machine's log.

    Attributes:
        machine: the machine's name.
        instance: its instance id.
        chain: which row of bytes it is of.
        timeline: PostgreSQL's number of the history that it is of.
        segment: bytes of a file of the log.
        system: the cluster's own number.
        start: its first byte, as the number of bytes before it.
        end: the same of what comes after its last.
        since: what was committed before (UTC) is in an earlier part, or in a backup.
        until: what was committed by then is in this or an earlier one.
        sha256: of its bytes.
        tail: of its last TAIL bytes.
        snapshot: the engine's snapshot that it is; empty as long as there is none.
    """

    machine: str
    instance: str
    chain: str
    timeline: int
    segment: int
    system: str
    start: int
    end: int
    since: str
    until: str
    sha256: str
    tail: str
    snapshot: str = ""

    @property
    def size(self) -> int:
        """Bytes of it."""
        return self.end - self.start

    def tags(self) -> tuple[str, ...]:
        """Return it as the tags of a snapshot."""
        facts: dict[str, Any] = {
            "machine": self.machine, "instance": self.instance, "chain": self.chain,
            "timeline": self.timeline, "segment": self.segment, "system": self.system,
            "start": told(self.start), "end": told(self.end), "since": self.since,
            "until": self.until, "sha256": self.sha256, "tail": self.tail,
        }  # fmt: skip
        return tags.written(MARK, VERSION, facts)

    @classmethod
    def of(cls, snapshot: Mapping[str, Any]) -> Self | None:
        """Return the part that a snapshot is; None if it is none."""
        facts = tags.facts_of(snapshot, MARK, VERSION)
        if facts is None:
            return None
        try:
            found = cls(
                facts["machine"], facts["instance"], facts["chain"], int(facts["timeline"]),
                int(facts["segment"]), facts["system"], place_of(facts["start"]),
                place_of(facts["end"]), facts["since"], facts["until"], facts["sha256"],
                facts["tail"], str(snapshot["id"]),
            )  # fmt: skip
            _ = moment_of(found.since), moment_of(found.until)
        except (KeyError, ValueError):
            return None
        return found if found.size > 0 else None


def said(moment: datetime) -> str:
    """Return a moment as people are told it, and tell it: in UTC, to the second before."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
