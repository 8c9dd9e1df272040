"""When backups are due and late, and what wakes rave up for them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.backups import schedule, timers
from rave_cli.backups.ledger import LastDeed
from rave_cli.backups.schedule import EVERY, WEEKDAYS, BackupSchedule, BackupSchedules, minute_of
from rave_cli.errors import RaveError

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600.0
# A Thursday, 2026-11-26T12:00:00Z.
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()


def planned(every: str = "1d", at: str = "02:30", tested: str | None = "sun") -> BackupSchedule:
    minute = minute_of(at)
    assert minute is not None
    return BackupSchedule("dev", every, minute, 30, 12, tested)  # type: ignore[arg-type]


def done(at: float, *, error: str | None = None, well: float | None = None) -> LastDeed:
    return LastDeed(at, at + 60, error, "dev-1", well if error else at + 60)


schedules = st.builds(
    BackupSchedule, st.just("dev"), st.sampled_from(sorted(EVERY)), st.integers(0, 1439),
    st.integers(1, 30), st.integers(0, 12), st.sampled_from([*WEEKDAYS, None]),
)  # fmt: skip
moments = st.floats(NOW - 400 * 86400, NOW + 400 * 86400)


@given(schedules, moments)
def test_a_turn_has_begun_and_is_not_over(one: BackupSchedule, now: float) -> None:
    assert one.turn(now) <= now < one.next(now)
    turn = datetime.fromtimestamp(round(one.turn(now)), UTC)
    assert (turn.hour * 3600 + turn.minute * 60 - one.minute * 60) % one.seconds == 0
    test = one.test_turn(now)
    if test is not None:
        assert test <= now < test + 7 * 86400
        before = datetime.fromtimestamp(round(test) - schedule.TEST_AFTER, UTC)
        assert WEEKDAYS[before.weekday()] == one.tested
    else:
        assert not one.test_is_due(None, now)


@given(schedules, moments, st.floats(0, 3 * 86400))
def test_what_was_done_in_this_turn_is_not_due_again(
    one: BackupSchedule, now: float, ago: float
) -> None:
    last = done(now - ago - 60)
    assert one.is_due(last, now) == (last.since < one.turn(now))


def test_what_failed_is_tried_again_an_hour_later_and_what_was_missed_at_once() -> None:
    one = planned()
    turn = one.turn(NOW)
    assert turn == NOW - 9.5 * HOUR
    failed = done(NOW - 0.5 * HOUR, error="it does not run", well=turn - HOUR)
    assert not one.is_due(failed, NOW)
    assert one.is_due(failed, NOW + 0.6 * HOUR)
    assert one.is_due(done(turn - 30 * 24 * HOUR), NOW)
    assert one.is_due(None, NOW)
    killed = LastDeed(NOW - 2 * HOUR, None, None, None, turn - 24 * HOUR)
    assert one.is_due(killed, NOW)


def test_a_clock_that_was_put_back_keeps_no_backup_back() -> None:
    assert planned().is_due(done(NOW + 400 * 24 * HOUR), NOW)


def test_a_restore_test_comes_once_a_week_and_again_later_if_it_failed() -> None:
    one = planned()
    sunday = datetime(2026, 11, 22, 3, 30, tzinfo=UTC).timestamp()
    assert one.test_turn(NOW) == sunday
    assert not one.test_is_due(done(sunday + 60), NOW)
    assert one.test_is_due(done(sunday - 60), NOW)
    failed = done(NOW - 5 * HOUR, error="no memory", well=None)
    assert not one.test_is_due(failed, NOW)
    assert one.test_is_due(failed, NOW + 2 * HOUR)


def test_a_backup_is_late_a_turn_and_some_time_after_the_one_before() -> None:
    assert planned("1d").allowed == 26 * HOUR
    assert planned("15min").allowed == 0.5 * HOUR


@given(st.text(max_size=6))
def test_what_is_no_time_of_day_is_none(text: str) -> None:
    found = minute_of(text)
    assert found is None or 0 <= found < 1440


def test_a_time_of_day_is_minutes_after_midnight() -> None:
    assert [minute_of(text) for text in ("00:00", "2:30", "23:59")] == [0, 150, 1439]
    assert [minute_of(text) for text in ("24:00", "2:60", "2:3", "02.30", "-1:00")] == [None] * 5


def test_schedules_are_kept_and_read_back(home: Path) -> None:
    assert schedule.load() == BackupSchedules()
    one, other = planned(), BackupSchedule("a", "1h", 0, 1, 0, None)
    schedule.save(schedule.load().with_(one).with_(other).with_(planned("6h")))
    found = schedule.load()
    assert [(x.machine, x.every) for x in found.schedules] == [("a", "1h"), ("dev", "6h")]
    assert found.of("dev") == planned("6h")
    assert found.without("dev").of("dev") is None
    assert schedule.place().stat().st_mode & 0o777 == 0o600
    assert home in schedule.place().parents


def test_schedules_from_before_logs_were_fetched_fetch_none(home: Path) -> None:
    assert home.is_dir()
    schedule.save(BackupSchedules((planned(),)))
    document = json.loads(schedule.place().read_text())
    del document["schedules"][0]["log"]
    schedule.place().write_text(json.dumps(document | {"version": 1}))
    assert schedule.load().schedules == (planned(),)


ODD = "/tmp/a b'c\"d%e$f\\g"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this host")
@pytest.mark.parametrize("sparing", [True, False])
def test_systemd_takes_the_units_and_runs_the_script_whatever_its_place_is_called(
    tmp_path: Path, sparing: bool
) -> None:
    script = tmp_path / ODD.rpartition("/")[2]
    script.write_text("#!/bin/sh\nexit 0\n")
    for name, text in timers.units(str(script), sparing=sparing, logs=True).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
         *(str(tmp_path / f"{unit}.{kind}") for unit in (timers.UNIT, timers.LOG_UNIT)
           for kind in ("service", "timer"))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if timers.UNIT in line]
    assert (done.returncode, ours) == (0, [])
    service = (tmp_path / f"{timers.UNIT}.service").read_text()
    assert ("IOSchedulingPriority=7" in service, "Nice=10" in service) == (sparing, sparing)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this host")
def test_the_timer_comes_each_quarter_of_an_hour() -> None:
    (line,) = (x for x in timers.TIMER.splitlines() if x.startswith("OnCalendar="))
    words = ["systemd-analyze", "calendar", "--iterations=3", line.partition("=")[2]]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert "*-*-* *:00/15:00" in done.stdout


def test_the_script_has_its_environment_and_its_words_whatever_is_in_them(tmp_path: Path) -> None:
    place = tmp_path / "run"
    values = {"RAVE_BACKUP_FOLDER": ODD, "SAFE_MODE": "1"}
    program = (
        'import json, os, sys; print(json.dumps([sys.argv[1:], os.environ["RAVE_BACKUP_FOLDER"]]))'
    )
    place.write_text(timers.script(["python3", "-c", program, ODD, "a\nb"], values))
    done = subprocess.run(
        ["/bin/sh", place], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [[ODD, "a\nb"], ODD]


def test_the_line_for_cron_names_the_script_and_escapes_what_cron_takes() -> None:
    line = timers.cron_line(ODD, sparing=True)
    assert line.startswith("*/15 * * * * nice -n 10 ionice -c 2 -n 7 ")
    command = line.split(" ", 5)[5].replace("\\%", "%")
    assert shlex.split(command)[-1] == ODD
    with pytest.raises(RaveError, match="no timer can name"):
        timers.cron_line("/tmp/a\nb", sparing=False)
