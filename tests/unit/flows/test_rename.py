"""A machine with another name has its backups' schedule and ledger with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli.backups import ledger, schedule
from rave_cli.backups.schedule import BackupSchedule
from rave_cli.errors import RaveError
from rave_cli.flows import rename
from rave_cli.machines.names import stored_names

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


def test_schedule_and_ledger_go_along(machine: Machine) -> None:
    planned = BackupSchedule("demo", "1d", 150, 30, 12, None)
    other = BackupSchedule("other", "1h", 0, 1, 0, None)
    schedule.save(schedule.load().with_(planned).with_(other))
    with ledger.noted("demo", "made", print) as about_it:
        about_it("demo-1")
    before = ledger.load("demo")
    rename.rename("demo", "web")
    assert stored_names() == ["web"]
    assert [one.machine for one in schedule.load().schedules] == ["other", "web"]
    assert schedule.load().of("web") == BackupSchedule("web", "1d", 150, 30, 12, None)
    assert ledger.load("web") == before
    assert ledger.load("demo").made is None


def test_one_that_is_not_renamed_keeps_them(machine: Machine) -> None:
    planned = BackupSchedule("demo", "1d", 150, 30, 12, None)
    schedule.save(schedule.load().with_(planned))
    with pytest.raises(RaveError, match="is called demo"):
        rename.rename("demo", "demo")
    assert schedule.load().of("demo") == planned


def test_one_without_backups_is_renamed(machine: Machine) -> None:
    rename.rename("demo", "web")
    assert stored_names() == ["web"]
    assert schedule.load().schedules == ()
