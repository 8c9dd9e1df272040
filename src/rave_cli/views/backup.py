"""Backups as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.backups import parts

if TYPE_CHECKING:
    from typing import Any

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.log import Span
    from rave_cli.backups.schedule import BackupSchedule
    from rave_cli.backups.standing import BackupStanding
    from rave_cli.flows.log import FetchedLog
    from rave_cli.flows.restore import RestoredBackup
    from rave_cli.flows.restore_new import RecoveredMachine

STANDING = ("machine", "backups", "latest", "age", "size", "every", "proven", "wrong")
SCHEDULE = ("machine", "every", "first", "kept", "log", "tested")
COLUMNS = ("backup", "machine", "at", "size", "services")


def size_of(count: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{count / 2**20:.1f} MiB"


def backup_row(backup: Backup) -> tuple[str, ...]:
    """Return a backup as a row of COLUMNS."""
    services = ",".join(backup.services)
    return (backup.name, backup.machine, backup.at, size_of(backup.size), services)


def backup_lines(backup: Backup, span: Span | None = None) -> list[str]:
    """Return a backup as lines, with the moments that can be reached from it."""
    more = (
        ("until", f"{backup.until} ({backup.window:g} s later)"),
        ("instance", backup.instance),
        ("made of", f"{backup.profile} on {backup.base}"),
        ("sha256", backup.sha256),
        *((("moments", str(span)),) if span else ()),
    )
    rows = [*zip(COLUMNS, backup_row(backup), strict=True), *more]
    return [f"{head:<9} {value}" for head, value in rows]


def fetched_line(done: FetchedLog) -> str:
    """Return what was fetched of a log as a line."""
    until = parts.said(parts.moment_of(done.part.until))
    return (
        f"{done.part.machine}: PostgreSQL's log up to {until}, {size_of(done.part.size)} more in"
        f" {done.seconds:.1f} s"
    )


def restored_line(done: RestoredBackup) -> str:
    """Return what was put back as a line."""
    services = ", ".join(done.services)
    at = f", PostgreSQL as of {parts.said(done.at)}" if done.at else ""
    return f"{done.machine} has {done.backup.name}: {services}{at}, in {done.seconds:.1f} s"


def recovered_lines(made: RecoveredMachine) -> list[str]:
    """Return what was made anew, how long it took, and what is lost, as lines."""
    steps = ", ".join(f"{name} {spent:.1f}" for name, spent in made.steps.items())
    backup = made.restored.backup
    since = ", of the call that began it" if made.resumed else ""
    at = made.restored.at
    lost = f"RPO {made.rpo:.0f} s: what {backup.machine} was told after {backup.at} is not in it"
    if at is not None:
        lost = (
            f"RPO {made.rpo:.0f} s: what PostgreSQL of {backup.machine} was told after"
            f" {parts.said(at)} is not in it, nor what others were told after {backup.at}"
        )
    return [
        restored_line(made.restored),
        f"RTO {made.rto:.1f} s{since} ({steps})",
        lost,
    ]


def standing_row(one: BackupStanding) -> tuple[str, ...]:
    """Return how a machine's backups are as a row of STANDING."""
    restored = one.ledger.restored
    proven = (
        "never" if restored is None or restored.well is None else _span(one.now - restored.well)
    )
    return (
        one.machine,
        str(one.count),
        one.latest.at if one.latest else "-",
        "-" if one.age is None else _span(one.age),
        size_of(one.latest.size) if one.latest else "-",
        one.schedule.every if one.schedule else "by hand",
        proven,
        ",".join(finding.kind for finding in one.findings) or "-",
    )


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def schedule_row(one: BackupSchedule) -> tuple[str, ...]:
    """Return a schedule as a row of SCHEDULE."""
    kept = f"{one.days} days, {one.months} months"
    log = f"{one.log} days" if one.log else "-"
    return (one.machine, one.every, f"{one.at} UTC", kept, log, one.tested or "never")


def schedule_document(one: BackupSchedule) -> dict[str, Any]:
    """Return a schedule for JSON."""
    return {
        "machine": one.machine,
        "every": one.every,
        "at": one.at,
        "days": one.days,
        "months": one.months,
        "log": one.log,
        "tested": one.tested,
    }
