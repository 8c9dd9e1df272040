"""PostgreSQL's log on the host's side, with the real engine: fetched, folded, read back, killed."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rave_cli.backups import engine, log, parts, schedule, timers
from rave_cli.backups.retention import RetentionPolicy
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import backup_now, backup_schedule, backup_status, restore_new, vault
from rave_cli.flows import log as logs
from tests import kills
from tests.integration.backups.hosts import ITEMS, Host, Log
from tests.integration.backups.test_backups import run, unlocked
from tests.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("restic"), reason="no restic on this host"),
]


@pytest.fixture
def logged(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose backup was made while the log was fetched."""
    clock = itertools.count()
    (made,) = vault.listed(host.settings).backups
    first = made.moment - timedelta(seconds=1)
    found = Log(now=first)
    # Each fetch a second after the one before, by the guest's clock.
    monkeypatch.setattr(
        "tests.integration.backups.hosts.now", lambda: first + timedelta(seconds=next(clock) + 1)
    )
    host.machine.log = found
    monkeypatch.setattr(log, "whole", lambda backup: backup.moment)
    return host


def fetch(host: Host) -> logs.FetchedLog:
    return logs.fetch("dev", host.settings, on_event=host.told.append)


def chains(host: Host) -> tuple[log.LogChain, ...]:
    return log.chains(vault.listed(host.settings).logs)


def content_of(host: Host) -> bytes:
    target = vault.opened(host.settings)
    (chain,) = log.chains(target.listing().logs)
    return b"".join(piece for part in chain.parts for piece in logs.read(target, part))


def test_what_is_fetched_bit_by_bit_is_the_log_and_is_made_one(
    logged: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_SMALL", 3)
    assert logged.machine.log is not None
    first = fetch(logged)
    assert first.begun is not None
    assert all(fetch(logged).begun is None for _ in range(3))
    listing = vault.listed(logged.settings)
    assert len(listing.logs) == 2, "three of them are one"
    assert listing.broken == ()
    assert content_of(logged) == logged.machine.log.data
    assert logged.machine.log.asked[-1]["until"] > 0
    logged.verify()


def test_a_machine_comes_back_as_of_a_moment_with_the_log_behind_its_backup(
    logged: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = logged.machine.log
    assert found is not None
    fetch(logged)
    found.now = datetime.now(UTC) + timedelta(seconds=30)
    monkeypatch.setattr("tests.integration.backups.hosts.now", lambda: found.now)
    fetch(logged)
    at = datetime.now(UTC)
    done = logged.restore(at=at)
    assert done.at == at
    taken = logged.machine.taken
    assert {name: taken[name] for name in ITEMS} == ITEMS
    assert taken["log"] == found.data
    facts = json.loads(taken["log.json"])
    assert parts.moment_of(facts["at"]) == at
    assert parts.place_of(facts["end"]) - parts.place_of(facts["start"]) == len(found.data)
    with pytest.raises(RaveError, match=r"cannot be restored to .*, but to") as caught:
        logged.restore(at=at + timedelta(hours=1))
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint == f"the nearest: --at {parts.said(found.now)}"
    with pytest.raises(RaveError, match="redis is to be restored alone"):
        logged.restore(at=at, only=("redis",))
    answers = json.loads(run("list", "--json"))
    assert answers["moments"]["dev"][0]["until"] == parts.said(found.now)
    (name,) = logged.names()
    assert "moments" in run("show", name)
    logged.machine.log = None
    with pytest.raises(RaveError, match="made by an older rave"):
        logged.restore(at=at)


def test_without_a_log_no_moment_can_be_reached(host: Host) -> None:
    with pytest.raises(RaveError, match="cannot be restored to a moment") as caught:
        host.restore(at=datetime.now(UTC))
    assert "--log 7" in str(caught.value.hint)


def test_a_lost_part_is_a_gap_and_a_new_backup_is_what_helps(logged: Host) -> None:
    for _ in range(3):
        fetch(logged)
    target = vault.opened(logged.settings)
    (chain,) = log.chains(target.listing().logs)
    target.engine.forget([chain.parts[1].snapshot])
    assert len(chains(logged)) == 2
    with pytest.raises(engine.UnsoundRepositoryError, match="lacks 3000 bytes") as caught:
        logged.verify(everything=False)
    assert (caught.value.exit_code, caught.value.hint) == (
        ExitCode.VERIFICATION,
        "rave backup now dev",
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"end": "0/1"}, "no description"),
        ({"start": "0/9000000"}, "no description|does not go on"),
        ({"until": "tomorrow"}, "no description"),
        ({"until": "2099-01-01T00:00:00.000000Z"}, "s ahead of this host's"),
        ({"chain": "../../etc"}, "no description"),
        ({"timeline": None}, "no description"),
    ],
)
def test_a_guest_is_not_believed(logged: Host, change: dict[str, Any], why: str) -> None:
    fetch(logged)
    dumps = json.dumps

    def lying(document: Any, **more: Any) -> str:
        if isinstance(document, dict) and "timeline" in document:
            document = document | change
        return dumps(document, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.integration.backups.hosts.json.dumps", lying)
        with pytest.raises(RaveError, match=why):
            fetch(logged)
    assert len(vault.listed(logged.settings).logs) == 1


POINTS = ("received", "before the engine", "kept", "folding", "folded")


def test_no_kill_leaves_a_hole_in_the_log(logged: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """rave killed before and after each step of a fetch, and of making small parts one."""
    monkeypatch.setattr(log, "MOST_SMALL", 3)
    found = logged.machine.log
    assert found is not None
    fetch(logged)
    fetch(logged)
    for point in POINTS:
        pid = os.fork()
        if pid == 0:
            doomed(logged, point)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), (point, status)
        kills.count()
        # What the guest has written by then is sent with the next.
        found.size += found.more
        assert fetch(logged).begun is None
        (chain,) = chains(logged)
        assert chain.last.end == found.start + len(found.data)
    assert content_of(logged) == found.data
    assert vault.listed(logged.settings).broken == ()
    until(lambda: not list((logged.folder / "repository/locks").iterdir()) or unlocked(logged))
    logged.verify()


def doomed(host: Host, point: str) -> None:
    def die(*_: object, **__: object) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    keep, forget = engine.Engine.keep, engine.Engine.forget
    kept = [0]

    def counted(*given: Any, **more: Any) -> str:
        kept[0] += 1
        if (point, kept[0]) in {("before the engine", 1), ("folding", 2)}:
            die()
        name = keep(*given, **more)
        if (point, kept[0]) == ("kept", 1):
            die()
        return name

    def dropped(*given: Any) -> None:
        forget(*given)
        if point == "folded":
            die()

    engine.Engine.keep = counted  # type: ignore[method-assign]
    engine.Engine.forget = dropped  # type: ignore[method-assign, assignment]
    if point == "received":
        logs._begun = die
    log.MOST_SMALL = 1
    fetch(host)
    os._exit(0)


def test_prune_leaves_what_leads_on_from_a_backup_that_stays(logged: Host) -> None:
    for _ in range(3):
        fetch(logged)
    done = vault.prune(logged.settings, RetentionPolicy(), on_event=logged.told.append)
    assert (done.logs, len(chains(logged)[0].parts)) == ((), 3)
    done = vault.prune(logged.settings, RetentionPolicy(log=0), on_event=logged.told.append)
    assert len(done.logs) == 2
    assert fetch(logged).begun is None, "the next goes on from the last"
    logged.verify()


def scheduled(host: Host, monkeypatch: pytest.MonkeyPatch, days: int = 7) -> None:
    for module in (backup_schedule, backup_status, restore_new):
        monkeypatch.setattr(module, "stored_names", lambda: ["dev"])
    schedule.save(
        schedule.BackupSchedules((schedule.BackupSchedule("dev", "1d", 0, 30, 12, None, log=days),))
    )


def test_a_schedule_fetches_and_backs_up_what_has_no_beginning(
    logged: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = logged.machine.log
    assert found is not None
    scheduled(logged, monkeypatch)
    found.now = datetime.now(UTC)
    monkeypatch.setattr("tests.integration.backups.hosts.now", lambda: datetime.now(UTC))
    listing = vault.listed(logged.settings)
    report = backup_status.of(listing, "dev", kit_missing=None).machines[0]
    assert "log" in {one.kind for one in report.findings}
    # Its only backup is from before its log.
    done = backup_schedule.run_logs(logged.settings, on_event=logged.told.append)
    assert (done.fetched, done.failed) == (("dev",), ())
    assert len(logged.names()) == 2
    assert len(found.asked) == 3, "before the backup and after it, too"
    found.more = 0
    failed = backup_schedule.run_logs(logged.settings, on_event=logged.told.append)
    assert [name for name, _ in failed.failed] == ["dev"]


def test_a_backup_is_made_even_if_the_log_is_not_to_be_had(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled(host, monkeypatch)

    def fails(*_: object, **__: object) -> None:
        raise RaveError("no log today", exit_code=ExitCode.NOT_READY)

    monkeypatch.setattr(logs, "fetch", fails)
    done = backup_now.now("dev", host.settings, on_event=host.told.append)
    assert done.backup.name in host.names()
    assert [one.text for one in host.told if one.kind == "warning"] == [
        "the log is not fetched: no log today"
    ] * 2


def test_the_timer_of_logs_comes_each_four_minutes() -> None:
    units = timers.units("/run/rave it", sparing=True, logs=True)
    assert "OnCalendar=*:0/4\n" in units["rave-backup-log.timer"]
    assert 'ExecStart=/bin/sh "/run/rave it" --logs\n' in units["rave-backup-log.service"]
    line = timers.cron_line("/run/rave", sparing=False, logs=True)
    assert line == "*/4 * * * * /run/rave --logs"
