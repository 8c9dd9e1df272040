"""How the backups of all machines are: what the folder, the ledgers and the schedules say."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rave_cli.backups import kit, ledger, log, pending, schedule, standing
from rave_cli.backups.away import record
from rave_cli.flows import vault as vaults
from rave_cli.machines.names import stored_names

if TYPE_CHECKING:
    from rave_cli.backups.kept import KnownBackups
    from rave_cli.backups.pending import PendingRestore
    from rave_cli.backups.standing import BackupStanding
    from rave_cli.settings import Settings


@dataclass(frozen=True)
class BackupReport:
    """How all backups are.

    Attributes:
        machines: of each machine that there is and has backups, or a schedule.
        gone: names of machines that have backups and are not there any more.
        broken: snapshots that broke off.
        unknown: names of machines that have a schedule and are not there any more.
        pending: restores into new machines that have not ended.
        kit: why what has to be kept outside of this host may not be; None if a kit was made.
        copy: what is wrong with the copy in another place; None if nothing is, or there is none.
    """

    machines: tuple[BackupStanding, ...]
    gone: tuple[str, ...]
    broken: int
    unknown: tuple[str, ...]
    pending: tuple[PendingRestore, ...]
    kit: str | None
    copy: str | None = None

    @property
    def well(self) -> bool:
        """Whether nothing is wrong with any machine's backups."""
        if self.pending or self.unknown or self.copy is not None:
            return False
        return not any(one.findings for one in self.machines)

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "well": self.well,
            "machines": [one.document() for one in self.machines],
            "gone": list(self.gone),
            "broken": self.broken,
            "unknown": list(self.unknown),
            "pendingRestores": [
                {"to": one.to, "backup": one.backup, "command": one.command} for one in self.pending
            ],
            "kit": self.kit,
            "copy": self.copy,
        }


def report(name: str | None, settings: Settings) -> BackupReport:
    """Say how the backups are, of all machines or of one.

    Raises:
        RaveError: USAGE if there are no backups yet; as opening the folder.
    """
    target = vaults.opened(settings)
    listing = target.listing()
    latest = max((one.moment for one in listing.backups), default=None)
    copy = record.wrong(record.load(target.folder), latest, time.time())
    found = of(listing, name, kit_missing=kit.missing(target.folder, target.engine.key))
    return replace(found, copy=copy)


def of(listing: KnownBackups, name: str | None, *, kit_missing: str | None) -> BackupReport:
    """The same of backups that were listed.

    Raises:
        RaveError: HOST if a record cannot be read.
    """
    now = time.time()
    planned = schedule.load()
    there = set(stored_names())
    known = {one.machine for one in listing.backups}
    wanted = known & there | {one.machine for one in planned.schedules if one.machine in there}
    if name is not None:
        wanted &= {name}
    machines = [
        standing.judge(
            one, listing.of_machine(one), planned.of(one), ledger.load(one), now,
            chains=log.chains(listing.logs_of(one)),
        )
        for one in sorted(wanted)
    ]  # fmt: skip
    gone = tuple(sorted(known - there)) if name is None else ()
    left = tuple(one for one in pending.left() if not pending.busy(one.to))
    unknown = tuple(one.machine for one in planned.schedules if one.machine not in there)
    return BackupReport(tuple(machines), gone, len(listing.broken), unknown, left, kit_missing)
