"""When machines are backed up by themselves: what is due, and what is late.

Whoever wakes rave up (a timer of systemd, cron) does so each quarter of an hour and knows nothing
of it: what is due is decided here, and what was missed while the host was off is due when it is on.
All times are UTC, which has no hour twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from rave_cli import paths
from rave_cli.records import RecordFormat
from rave_cli.shapes import AtLeast

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rave_cli.backups.ledger import LastDeed
    from rave_cli.records import Document

MINUTE, HOUR, DAY = 60, 3600, 86400
# Each divides a day.
EVERY: Mapping[str, int] = {
    "15min": 15 * MINUTE, "30min": 30 * MINUTE, "1h": HOUR, "2h": 2 * HOUR, "4h": 4 * HOUR,
    "6h": 6 * HOUR, "12h": 12 * HOUR, "1d": DAY,
}  # fmt: skip
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# The epoch was a Thursday.
FIRST_WEEKDAY = 3

# Seconds after which what failed is tried again, within its turn; a restore test makes a machine.
TRIED_AGAIN = HOUR
TESTED_AGAIN = 6 * HOUR
# Seconds by which a backup may come later than its turn before it is late.
LATE = 2 * HOUR
# The restore test comes so many seconds after the first backup of its day.
TEST_AFTER = HOUR
# Without a schedule a backup is late after a day and some room.
UNSCHEDULED = DAY + LATE

Interval = Literal["15min", "30min", "1h", "2h", "4h", "6h", "12h", "1d"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@dataclass(frozen=True)
class BackupSchedule:
    """When a machine is backed up.

    Attributes:
        machine: its name.
        every: how often; one of EVERY.
        minute: minutes after midnight (UTC) of the first of a day.
        days: so many days keep their last backup.
        months: so many months keep theirs.
        tested: the day of the week on which the latest is restored to see whether it can be; None
            for never.
        log: so many days can be restored to any of their moments: PostgreSQL's log is fetched each
            four minutes; 0 for none.
    """

    machine: str
    every: Interval
    minute: Annotated[int, AtLeast(0)]
    days: Annotated[int, AtLeast(1)]
    months: Annotated[int, AtLeast(0)]
    tested: Weekday | None
    log: Annotated[int, AtLeast(0)] = 0

    @property
    def seconds(self) -> int:
        """Seconds from one backup to the next."""
        return EVERY[self.every]

    @property
    def at(self) -> str:
        """The time of the first of a day, `02:30`."""
        return f"{self.minute // 60:02}:{self.minute % 60:02}"

    def turn(self, now: float) -> float:
        """Return when the current turn of backups began (seconds since the epoch)."""
        first = self.minute * MINUTE
        return now - (now - first) % self.seconds

    def test_turn(self, now: float) -> float | None:
        """Return when the current turn of restore tests began; None if there are none."""
        if self.tested is None:
            return None
        day = (WEEKDAYS.index(self.tested) - FIRST_WEEKDAY) * DAY
        first = day + self.minute * MINUTE + TEST_AFTER
        return now - (now - first) % (7 * DAY)

    def is_due(self, last: LastDeed | None, now: float) -> bool:
        """Return whether a backup is to be made now."""
        return _due(last, self.turn(now), min(TRIED_AGAIN, self.seconds), now)

    def test_is_due(self, last: LastDeed | None, now: float) -> bool:
        """Return whether the latest backup is to be restored now, to see whether it can be."""
        turn = self.test_turn(now)
        return turn is not None and _due(last, turn, TESTED_AGAIN, now)

    @property
    def allowed(self) -> int:
        """Seconds after which the latest backup is late."""
        return self.seconds + min(LATE, self.seconds)

    def next(self, now: float) -> float:
        """Return when the next turn begins."""
        return self.turn(now) + self.seconds


def _due(last: LastDeed | None, turn: float, again: float, now: float) -> bool:
    if last is None or last.since < turn:
        return True
    done = last.well is not None and last.well >= turn
    # A clock that was put back has deeds of tomorrow, which nobody has done yet.
    return last.since > now or (not done and now - last.since >= again)


@dataclass(frozen=True)
class BackupSchedules:
    """The schedules of all machines, by name."""

    schedules: tuple[BackupSchedule, ...] = ()

    def of(self, machine: str) -> BackupSchedule | None:
        """Return the schedule of a machine; None if it has none."""
        return next((one for one in self.schedules if one.machine == machine), None)

    def with_(self, schedule: BackupSchedule) -> BackupSchedules:
        """Return them with one in the place of the machine's."""
        others = self.without(schedule.machine).schedules
        return BackupSchedules(tuple(sorted((*others, schedule), key=lambda one: one.machine)))

    def without(self, machine: str) -> BackupSchedules:
        """Return them without a machine's."""
        return BackupSchedules(tuple(one for one in self.schedules if one.machine != machine))


def _without_logs(document: Document) -> Document:
    """Let schedules of version 1 fetch no log."""
    schedules = [{"log": 0} | one for one in document["schedules"]]
    return document | {"schedules": schedules}


SCHEDULES = RecordFormat(
    title="the schedules of backups",
    shape=BackupSchedules,
    version=2,
    upgrades={1: _without_logs},
)


def place() -> Path:
    """Return where the schedules are."""
    return paths.config_dir() / "backup-schedules.json"


def load() -> BackupSchedules:
    """Return the schedules.

    Raises:
        RaveError: HOST if they are damaged or of a newer rave.
    """
    with paths.refusing(place()):
        there = place().exists()
    if not there:
        return BackupSchedules()
    return SCHEDULES.read(place(), hint=f"look into {place()}; rave backup schedule set writes it")


def save(schedules: BackupSchedules) -> None:
    """Write the schedules.

    Raises:
        RaveError: HOST if they cannot be written.
    """
    SCHEDULES.write(place(), schedules, mode=0o600)


def minute_of(text: str) -> int | None:
    """Return a time of day (`02:30`) in minutes after midnight; None if it is none."""
    hours, colon, minutes = text.partition(":")
    if not colon or not (hours.isdigit() and minutes.isdigit() and hours.isascii()):
        return None
    if not minutes.isascii() or len(minutes) != 2 or int(hours) > 23 or int(minutes) > 59:
        return None
    return int(hours) * 60 + int(minutes)
