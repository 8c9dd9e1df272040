"""What is wrong with the backups of a machine: late, failed, unproven, or growing oddly."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rave_cli.backups import schedule as schedules
from rave_cli.backups.schedule import DAY, HOUR, MINUTE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.ledger import BackupLedger, LastDeed
    from rave_cli.backups.log import LogChain
    from rave_cli.backups.schedule import BackupSchedule

Kind = Literal["none", "late", "failed", "unproven", "unsound", "grew", "shrank", "lacks", "log"]

# Seconds after which a restore test of each week is missed, and what has not ended was killed.
PROVEN_WITHIN = 8 * DAY
ENDS_WITHIN = 6 * HOUR
# Seconds after which what is kept of a log is too little.
LOG_WITHIN = 15 * MINUTE
# The latest is compared with the median of so many before it: a factor, and bytes that are worth
# a word.
BEFORE = 7
ODD_FACTOR = 2.0
ODD_BYTES = 64 << 20


@dataclass(frozen=True)
class BackupFinding:
    """Something that is wrong.

    Attributes:
        kind: in a word.
        text: as a sentence.
        advice: the command that helps.
    """

    kind: Kind
    text: str
    advice: str

    def document(self) -> dict[str, str]:
        """Return it for JSON."""
        return {"kind": self.kind, "text": self.text, "advice": self.advice}


@dataclass(frozen=True)
class BackupStanding:
    """How the backups of a machine are. Times are seconds since the epoch.

    Attributes:
        machine: its name.
        latest: its latest backup; None if there is none.
        count: how many there are.
        schedule: None if it is backed up by hand alone.
        ledger: what became of what was tried.
        now: when this was seen.
        findings: what is wrong.
    """

    machine: str
    latest: Backup | None
    count: int
    schedule: BackupSchedule | None
    ledger: BackupLedger
    now: float
    findings: tuple[BackupFinding, ...]

    @property
    def age(self) -> float | None:
        """Seconds since the moment of the latest backup: what is lost if the machine is lost."""
        return None if self.latest is None else self.now - self.latest.moment.timestamp()

    @property
    def due(self) -> float | None:
        """When the latest backup is late, of a machine that is backed up by a schedule."""
        if self.schedule is None or self.latest is None:
            return None
        return self.latest.moment.timestamp() + self.schedule.allowed

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        planned = self.schedule
        return {
            "machine": self.machine,
            "backups": self.count,
            "latest": self.latest.name if self.latest else None,
            "ageSeconds": None if self.age is None else round(self.age),
            "bytes": self.latest.size if self.latest else None,
            "every": planned.every if planned else None,
            "nextSeconds": round(planned.next(self.now) - self.now) if planned else None,
            "verified": _well(self.ledger.read),
            "restored": _well(self.ledger.restored),
            "findings": [one.document() for one in self.findings],
        }


def _well(deed: LastDeed | None) -> float | None:
    return deed.well if deed is not None else None


def judge(
    machine: str,
    backups: Sequence[Backup],
    schedule: BackupSchedule | None,
    ledger: BackupLedger,
    now: float,
    *,
    chains: Sequence[LogChain] = (),
) -> BackupStanding:
    """Say how the backups of a machine are.

    Args:
        machine: its name.
        backups: those of it that there are, the oldest first.
        schedule: when it is backed up; None if nobody said so.
        ledger: what became of what was tried.
        now: seconds since the epoch.
        chains: what is kept of its log.
    """
    latest = backups[-1] if backups else None
    findings = [
        *_age(machine, latest, schedule, now),
        *_failed(machine, ledger.made, now),
        *_unproven(machine, latest, schedule, ledger, now),
        *_odd(backups),
        *_log(machine, backups, schedule, now, chains),
    ]
    return BackupStanding(machine, latest, len(backups), schedule, ledger, now, tuple(findings))


def _age(
    machine: str, latest: Backup | None, schedule: BackupSchedule | None, now: float
) -> list[BackupFinding]:
    advice = f"rave backup now {machine}"
    if latest is None:
        return [BackupFinding("none", f"there is no backup of {machine}", advice)]
    allowed = schedules.UNSCHEDULED if schedule is None else schedule.allowed
    age = now - latest.moment.timestamp()
    if age <= allowed:
        return []
    text = f"the latest backup of {machine} is {_span(age)} old, more than {_span(allowed)}"
    return [BackupFinding("late", text, advice)]


def _failed(machine: str, made: LastDeed | None, now: float) -> list[BackupFinding]:
    if made is None:
        return []
    why = made.error
    if made.until is None and now - made.since > ENDS_WITHIN:
        why = "it was killed, or the host was"
    if why is None:
        return []
    text = f"the last backup of {machine} failed {_span(now - made.since)} ago: {why}"
    return [BackupFinding("failed", text, f"rave backup now {machine}")]


def _unproven(
    machine: str,
    latest: Backup | None,
    schedule: BackupSchedule | None,
    ledger: BackupLedger,
    now: float,
) -> list[BackupFinding]:
    found = []
    for what, deed, words in (
        ("be read", ledger.read, ""), ("be restored", ledger.restored, " --restore"),
    ):  # fmt: skip
        if deed is not None and deed.error is not None:
            text = f"the last look whether backups of {machine} can {what} failed: {deed.error}"
            found.append(BackupFinding("unsound", text, f"rave backup verify {machine}{words}"))
    if latest is None or schedule is None or schedule.tested is None:
        return found
    since = _well(ledger.restored)
    if since is None or now - since > PROVEN_WITHIN:
        when = "was never restored" if since is None else f"was restored {_span(now - since)} ago"
        text = f"a backup of {machine} {when}, to see whether it can be"
        found.append(BackupFinding("unproven", text, f"rave backup verify {machine} --restore"))
    return found


def _log(
    machine: str,
    backups: Sequence[Backup],
    schedule: BackupSchedule | None,
    now: float,
    chains: Sequence[LogChain],
) -> list[BackupFinding]:
    if schedule is None or not schedule.log:
        return []
    age = now - chains[-1].until.timestamp() if chains else None
    if age is None or age > LOG_WITHIN:
        when = "never" if age is None else f"{_span(age)} ago"
        text = f"PostgreSQL's log of {machine} was fetched {when}, and not each four minutes"
        return [BackupFinding("log", text, f"rave backup log {machine}")]
    if not any(chains[-1].is_behind(one) for one in backups):
        text = f"no backup of {machine} is one from which its log leads on"
        return [BackupFinding("log", text, f"rave backup now {machine}")]
    return []


def _odd(backups: Sequence[Backup]) -> list[BackupFinding]:
    if len(backups) < 2:
        return []
    *before, latest = backups[-BEFORE - 1 :]
    usual = statistics.median(one.size for one in before)
    advice = f"rave backup show {latest.name}"
    found = []
    change = latest.size - usual
    if abs(change) >= ODD_BYTES and latest.size > ODD_FACTOR * usual:
        text = f"{latest.name} has {_size(latest.size)}, those before had {_size(usual)}"
        found.append(BackupFinding("grew", text, advice))
    if abs(change) >= ODD_BYTES and latest.size * ODD_FACTOR < usual:
        text = f"{latest.name} has {_size(latest.size)} only, those before had {_size(usual)}"
        found.append(BackupFinding("shrank", text, advice))
    if absent := sorted(set(before[-1].services) - set(latest.services)):
        text = f"{latest.name} has nothing of {', '.join(absent)}, which the one before has"
        found.append(BackupFinding("lacks", text, advice))
    return found


def _size(count: float) -> str:
    return f"{count / 2**20:.0f} MiB"


def _span(seconds: float) -> str:
    """Return a span of time as people say it."""
    if seconds < 2 * HOUR:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < 3 * DAY else f"{seconds / DAY:.0f} days"
