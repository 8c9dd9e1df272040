"""What became of the copy in another place: a record in the folder that is copied."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from rave_cli import paths
from rave_cli.backups.ledger import LastDeed, ending
from rave_cli.backups.schedule import DAY, HOUR, UNSCHEDULED
from rave_cli.errors import RaveError
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

Deed = Literal["copied", "checked"]
RECORD = "copy.json"
# Seconds after which a copy is made again though no backup was: PostgreSQL's log may have grown.
AGAIN = HOUR


@dataclass(frozen=True)
class CopyRecord:
    """The last copy into a place (its address), and the last look at all that is there."""

    place: str
    copied: LastDeed | None = None
    checked: LastDeed | None = None


COPY = RecordFormat(title="the record of a copy of the backups", shape=CopyRecord, version=1)


def load(folder: Path) -> CopyRecord | None:
    """Return the record of a folder; None if it was never copied.

    Raises:
        RaveError: HOST if it is damaged or of a newer rave.
    """
    found = folder / RECORD
    with paths.refusing(found):
        there = found.exists()
    if not there:
        return None
    return COPY.read(found, hint=f"mv {found} {found}.damaged; rave backup copy makes it anew")


@contextmanager
def noted(
    folder: Path, place: str, deed: Deed, on_fault: Callable[[RaveError], object]
) -> Iterator[None]:
    """Note how something ends; a record that cannot be written is told to `on_fault`."""
    began = time.time()

    def end(error: str | None) -> None:
        now = time.time()
        try:
            before = load(folder)
            if before is None or before.place != place:
                before = CopyRecord(place)
            last = before.copied if deed == "copied" else before.checked
            well = (last.well if last else None) if error else now
            told = LastDeed(began, now, error, None, well)
            copied = deed == "copied"
            after = replace(before, copied=told) if copied else replace(before, checked=told)
            COPY.write(folder / RECORD, after, mode=0o600)
        except RaveError as fault:
            on_fault(fault)

    with ending(end):
        yield


def is_due(record: CopyRecord | None, now: float) -> bool:
    """Return whether the folder is to be copied, though no backup was made since."""
    if record is None or record.copied is None or record.copied.error is not None:
        return True
    well = record.copied.well
    return well is None or well > now or now - well >= AGAIN


def wrong(record: CopyRecord | None, latest: datetime | None, now: float) -> str | None:
    """Return what is wrong with the copy in another place, `latest` being the moment of the latest
    backup; None if nothing is, or there is none.
    """
    if record is None:
        return None
    for deed, what in ((record.copied, "copy of the backups to"), (record.checked, "look at")):
        if deed is not None and deed.error is not None:
            return f"the last {what} {record.place} failed {_ago(now - deed.since)}: {deed.error}"
    well = record.copied.well if record.copied else None
    if latest is None or (well is not None and latest.timestamp() <= well):
        return None
    if now - latest.timestamp() > UNSCHEDULED:
        return f"the latest backup was not copied to {record.place} for a day"
    return None


def _ago(seconds: float) -> str:
    if seconds < 2 * HOUR:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / HOUR:.0f} h ago" if seconds < 3 * DAY else f"{seconds / DAY:.0f} days ago"
