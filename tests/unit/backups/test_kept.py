"""What is known of backups, which of them are whole, and which stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.backups.kept import TIME, Backup, KnownBackups, new_name
from rave_cli.backups.retention import RetentionPolicy, staying
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import vault
from rave_cli.views.backup import backup_lines, backup_row

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def backup(hours: float = 0, machine: str = "dev", stream: str = "abcd1234") -> Backup:
    at = (FIRST + timedelta(hours=hours)).strftime(TIME)
    until = (FIRST + timedelta(hours=hours, seconds=3)).strftime(TIME)
    return Backup(
        f"{machine}-{hours}", machine, machine * 4, "demo", "debian", at, until,
        ("redis", "postgresql"), 3 << 20, "5" * 64, stream,
    )  # fmt: skip


def snapshot(one: Backup, number: int = 1) -> dict[str, Any]:
    return {"id": f"{number:064x}", "time": one.at, "tags": list(one.tags())}


def stream_of(one: Backup) -> dict[str, Any]:
    return {"id": one.stream.ljust(64, "0"), "time": one.at, "tags": ["rave-state"]}


def test_a_backup_is_read_back_from_its_tags() -> None:
    one = backup()
    found = Backup.of(snapshot(one))
    assert found is not None
    assert found.document() == one.document()
    assert (found.window, found.moment) == (3.0, FIRST)
    assert all("," not in tag for tag in one.tags())
    assert one.sha256.encode() in one.text()


def test_only_what_is_named_and_there_is_listed() -> None:
    whole, torn = backup(1), backup(2, stream="dcba4321")
    alone = {"id": "9" * 64, "time": "2026", "tags": None}
    found = KnownBackups.of([snapshot(whole), stream_of(whole), snapshot(torn, 2), alone])
    assert [one.name for one in found.backups] == [whole.name]
    assert set(found.broken) == {f"{2:064x}", "9" * 64}
    assert found.of_machine("dev") == found.backups
    assert found.of_machine("other") == ()


def test_a_machine_that_has_another_name_now_has_its_backups_under_it() -> None:
    first, other = backup(1), backup(2, machine="other")
    found = KnownBackups((first, other), ()).called({first.instance: "web"})
    assert [one.machine for one in found.backups] == ["web", "other"]
    assert [one.name for one in found.of_machine("web")] == [first.name]
    assert found.of_machine("dev") == ()


@given(st.lists(st.text(max_size=30), max_size=14))
def test_no_tags_are_more_than_no_backup(tags: list[str]) -> None:
    assert Backup.of({"id": "1", "tags": ["rave-backup=1", *tags]}) is None or len(tags) > 10


def test_a_time_finds_the_last_backup_that_is_not_later() -> None:
    listing = KnownBackups((backup(0), backup(6), backup(3, "other"), backup(12)), ())
    for wanted, hours in (
        ("latest", 12), ("2026-01-01T06:00Z", 6), ("2026-01-01T06:00:00Z", 6),
        ("2026-01-01T05:59:59Z", 0), ("2030-01-01T00:00Z", 12), ("dev-0", 0), ("other-3", 3),
    ):  # fmt: skip
        assert vault.find(listing, "dev", wanted).name.endswith(f"-{hours}")
    for wanted in ("2025-12-31T23:59Z", "2026-01-01", "dev-7"):
        with pytest.raises(RaveError) as caught:
            vault.find(listing, "dev", wanted)
        assert caught.value.exit_code == ExitCode.USAGE


def test_names_tell_machine_and_moment_and_do_not_meet() -> None:
    names = {new_name("dev", "2026-11-26T05:00:00Z") for _ in range(8)}
    assert len(names) > 1
    assert all(name.startswith("dev-20261126T050000Z-") for name in names)


HOURS = st.lists(st.integers(0, 24 * 800), min_size=1, max_size=40, unique=True)


@given(HOURS, st.integers(1, 40), st.integers(0, 15))
def test_what_stays_is_the_latest_of_so_many_days_and_months(
    hours: list[int], days: int, months: int
) -> None:
    known = [backup(hour) for hour in hours]
    stay = staying(known, RetentionPolicy(days, months))
    newest = max(known, key=lambda one: one.at)
    assert newest.name in stay
    assert len(stay) <= days + months
    kept = [one for one in known if one.name in stay]
    every_day = {one.at[:10] for one in known}
    newest_days = sorted(every_day, reverse=True)[:days]
    assert set(newest_days) <= {one.at[:10] for one in kept}
    for one in kept:
        same_day = [other for other in known if other.at[:10] == one.at[:10]]
        assert one.at == max(other.at for other in same_day)
    # Twice changes nothing more.
    assert staying(kept, RetentionPolicy(days, months)) == stay


def test_each_machine_has_days_of_its_own() -> None:
    known = [backup(0), backup(1), backup(0, "other")]
    assert staying(known, RetentionPolicy(1, 0)) == {"dev-1", "other-0"}


def test_a_backup_is_a_row_and_lines() -> None:
    row = backup_row(backup())
    assert row[2:] == ("2026-01-01T00:00:00Z", "3.0 MiB", "redis,postgresql")
    assert "until     2026-01-01T00:00:03Z (3 s later)" in backup_lines(backup())
