"""What is said to be wrong with the backups of a machine, and the ledger that it goes by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.backups import ledger
from rave_cli.backups.ledger import BackupLedger, LastDeed
from rave_cli.backups.log import LogChain
from rave_cli.backups.standing import BackupStanding, judge
from rave_cli.errors import ExitCode, RaveError
from tests.unit.backups.test_kept import FIRST, backup
from tests.unit.backups.test_log import part
from tests.unit.backups.test_schedule import planned

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.backups.kept import Backup
    from rave_cli.backups.schedule import BackupSchedule

HOUR = 3600.0
START = FIRST.timestamp()
MIB = 1 << 20


def well(hours: float) -> LastDeed:
    at = START + hours * HOUR
    return LastDeed(at, at + 60, None, "dev-0", at + 60)


def kinds(
    backups: list[Backup],
    hours: float,
    book: BackupLedger | None = None,
    plan: BackupSchedule | None = None,
) -> list[str]:
    found = judge("dev", backups, plan, book or BackupLedger(), START + hours * HOUR)
    assert all(one.advice.startswith("rave backup ") for one in found.findings)
    return [one.kind for one in found.findings]


def test_a_backup_is_late_by_its_schedule_or_after_a_day() -> None:
    assert kinds([backup(0)], 25) == []
    assert kinds([backup(0)], 27) == ["late"]
    hourly = planned("1h", tested=None)
    assert kinds([backup(0)], 1.9, plan=hourly) == []
    assert kinds([backup(0)], 2.1, plan=hourly) == ["late"]
    assert kinds([], 0) == ["none"]


def test_one_that_failed_or_was_killed_is_told_until_one_does_not() -> None:
    failed = LastDeed(START, START + 9, "there is no space left", None, None)
    assert kinds([backup(0)], 1, BackupLedger(made=failed)) == ["failed"]
    killed = LastDeed(START, None, None, None, None)
    assert kinds([backup(0)], 1, BackupLedger(made=killed)) == [], "it may run still"
    assert kinds([backup(0)], 7, BackupLedger(made=killed)) == ["failed"]
    assert kinds([backup(0)], 1, BackupLedger(made=well(0))) == []


def test_a_backup_that_nobody_restored_for_a_week_is_unproven_where_that_is_planned() -> None:
    latest = [backup(24 * 20)]
    proven = BackupLedger(restored=well(24 * 13))
    assert kinds(latest, 24 * 20, proven, planned()) == []
    assert kinds(latest, 24 * 20, BackupLedger(restored=well(24 * 11)), planned()) == ["unproven"]
    assert kinds(latest, 24 * 20, None, planned()) == ["unproven"]
    assert kinds(latest, 24 * 20, None, planned(tested=None)) == []
    assert kinds(latest, 24 * 20) == []


def test_a_backup_that_was_found_damaged_is_told() -> None:
    bad = LastDeed(START, START + 1, "it is not what was written", "dev-0", None)
    assert kinds([backup(0)], 1, BackupLedger(read=bad)) == ["unsound"]
    assert kinds([backup(0)], 1, BackupLedger(read=bad, restored=bad)) == ["unsound"] * 2


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([100, 100, 100], []),
        ([100, 100, 300], ["grew"]),
        ([10, 10, 30], []),  # too little for a word
        ([300, 300, 100], ["shrank"]),
        ([100, 900, 100, 100, 110], []),  # one that was odd before is not the measure
        ([500], []),
    ],
)
def test_a_backup_that_grows_or_shrinks_oddly_is_told(sizes: list[int], said: list[str]) -> None:
    backups = [replace(backup(hour), size=size * MIB) for hour, size in enumerate(sizes)]
    assert kinds(backups, len(sizes)) == said


def test_a_service_that_is_not_in_it_any_more_is_told() -> None:
    before, latest = backup(0), replace(backup(1), services=("redis",))
    found = judge("dev", [before, latest], None, BackupLedger(), START + 2 * HOUR)
    assert [one.text for one in found.findings if "postgresql" in one.text]


def test_a_standing_says_how_old_it_is_and_when_the_next_is_late() -> None:
    found = judge("dev", [backup(0)], planned("1h"), BackupLedger(), START + HOUR)
    assert (found.age, found.due) == (HOUR, START + 2 * HOUR)
    document = found.document()
    assert (document["ageSeconds"], document["every"], document["restored"]) == (3600, "1h", None)
    assert BackupStanding("dev", None, 0, None, BackupLedger(), 0, ()).age is None


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 1 << 40)), max_size=12),
    st.integers(-100, 1000),
)
def test_whatever_there_is_it_is_judged(facts: list[tuple[int, int]], hours: int) -> None:
    backups = [replace(backup(hour), size=size) for hour, size in sorted(facts)]
    found = judge("dev", backups, planned(), BackupLedger(), START + hours * HOUR)
    assert found.document()["backups"] == len(facts)


def test_the_ledger_knows_the_last_time_and_the_last_that_was_well(home: Path) -> None:
    faults: list[RaveError] = []
    with ledger.noted("dev", "made", faults.append) as about_it:
        about_it("dev-1")
    first = ledger.load("dev").made
    assert first is not None
    assert (first.backup, first.error, first.well) == ("dev-1", None, first.until)

    def fails() -> None:
        with ledger.noted("dev", "made", faults.append):
            under_way = ledger.load("dev").made
            assert under_way is not None
            assert under_way.until is None
            raise RaveError("it does not run", exit_code=ExitCode.NOT_READY)

    with pytest.raises(RaveError):
        fails()
    second = ledger.load("dev").made
    assert second is not None
    assert (second.error, second.well) == ("it does not run", first.well)
    with pytest.raises(KeyboardInterrupt), ledger.noted("dev", "read", faults.append):
        raise KeyboardInterrupt
    third = ledger.load("dev").read
    assert third is not None
    assert "interrupted" in (third.error or "")
    assert faults == []
    assert home in ledger.place("dev").parents


def test_a_ledger_that_cannot_be_written_keeps_no_backup_back(home: Path) -> None:
    place = ledger.place("dev")
    place.parent.mkdir(parents=True)
    place.write_text("[]")
    faults: list[RaveError] = []
    with ledger.noted("dev", "made", faults.append):
        pass
    assert [fault.exit_code for fault in faults] == [ExitCode.HOST] * 2
    assert place.read_text() == "[]"
    assert home in place.parents


def test_a_log_that_is_late_or_leads_on_from_nothing_is_told() -> None:
    plan = replace(planned(tested=None), log=7)
    row = LogChain((part(0), part(1)))

    def logs(backups: list[Backup], minutes: float, *known: LogChain) -> list[str]:
        now = FIRST.timestamp() + minutes * 60
        found = judge("dev", backups, plan, BackupLedger(), now, chains=known)
        return [one.kind for one in found.findings]

    assert logs([backup(0)], 10, row) == []
    assert logs([backup(0)], 30, row) == ["log"]
    assert logs([backup(0)], 10) == ["log"]
    assert logs([backup(-1)], 10, row) == ["log"]
