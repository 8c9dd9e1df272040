"""The examination of the backups."""

from __future__ import annotations

import time
from pathlib import Path

from rave_cli import paths, process, settings
from rave_cli.backups import kit, ledger, schedule, standing, vault
from rave_cli.backups.away import record
from rave_cli.doctor.examination import Diagnosis, examination
from rave_cli.doctor.system import as_root
from rave_cli.machines.names import stored_names
from rave_cli.secrets import identity


@examination("backups", "can what the machines keep be restored?")
def backups() -> Diagnosis:
    """Open the folder with the operator's keys, and look how old the latest backups are, what
    failed, and what was never proven.
    """
    named = settings.load().text("RAVE_BACKUP_FOLDER")
    folder = Path(named).expanduser().absolute() if named else vault.default_folder()
    if not named and not vault.exists(folder):
        return Diagnosis("skip", "no backups yet", advice="rave backup now NAME")
    if process.find("restic") is None:
        fix = as_root("apt-get", "install", "--yes", "--no-install-recommends", "restic")
        return Diagnosis("fail", f"there are backups in {folder}, and no restic to read them", fix)
    opened = vault.open_vault(folder, identity.load(), sparing=True)
    listing = opened.listing()
    planned, there, now = schedule.load(), set(stored_names()), time.time()
    known = {one.machine for one in listing.backups} | {one.machine for one in planned.schedules}
    standings = [
        standing.judge(name, listing.of_machine(name), planned.of(name), ledger.load(name), now)
        for name in sorted(known & there)
    ]
    wrong = [finding for one in standings for finding in one.findings]
    no_kit = kit.missing(folder, opened.engine.key)
    copied = record.load(folder)
    latest = max((one.moment for one in listing.backups), default=None)
    no_copy = record.wrong(copied, latest, now)
    facts = {
        "backups": len(listing.backups),
        "late": [one.machine for one in standings if "late" in {f.kind for f in one.findings}],
        "findings": [finding.document() for finding in wrong],
        "brokeOff": len(listing.broken),
        "kit": no_kit is None,
        "copy": copied.place if copied else None,
    }
    if wrong:
        more = f", and {len(wrong) - 1} more: rave backup status" if len(wrong) > 1 else ""
        return Diagnosis("warn", f"{wrong[0].text}{more}", advice=wrong[0].advice, facts=facts)
    if no_copy is not None:
        return Diagnosis("warn", no_copy, advice="rave backup copy", facts=facts)
    if no_kit is not None:
        return Diagnosis("warn", no_kit, advice="rave backup kit FILE", facts=facts)
    where = f"{len(listing.backups)} backups in {folder}"
    if copied is not None:
        where = f"{where}, with a copy in {copied.place}"
    elif _with_the_machines(folder):
        where = f"{where}, on the disk of the machines: keep a copy elsewhere"
    return Diagnosis("ok", f"your key opens {where}", facts=facts)


def _with_the_machines(folder: Path) -> bool:
    machines = paths.data_dir()
    return machines.exists() and machines.stat().st_dev == folder.stat().st_dev
