"""The drill of a lost host, and everything around a backup that is not one: with the real engine,
of a machine that sends what a test says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from rave_cli import audit, doctor
from rave_cli.app import cli
from rave_cli.backups import ledger, pending, schedule
from rave_cli.backups.schedule import BackupSchedule
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import backup_schedule, backup_status, restore_new, restore_test, vault
from rave_cli.flows.recovery import Recovery
from rave_cli.machines.guest import connection
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.smoke.recovery import IDS, carried_out
from tests import kills
from tests.integration.backups.hosts import ITEMS, Host, Machine, Spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.flows.machine import NewMachine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("restic"), reason="no restic on this host"),
]
CATALOG = parse(BAKED.read_bytes())


class World:
    """Machines that there are: by name, made as `rave up` makes them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.machines: dict[str, Machine] = {host.machine.name: host.machine}
        self.after: Callable[[str], None] = lambda _step: None
        self.calls: list[str] = []

    def up(self, wanted: NewMachine, *_: object, **more: Any) -> SimpleNamespace:
        assert (more["fresh"], more["check"]) == (False, False)
        self.after("asked")
        # What a killed call has made is on the disk.
        place = self.host.home / f"{wanted.name}.machine"
        if wanted.name not in self.names():
            assert wanted.instance_id is not None
            place.write_text(wanted.instance_id)
            self.calls.append(f"made {wanted.name}")
        self.after("made")
        machine = self.load(wanted.name)
        return SimpleNamespace(ready=SimpleNamespace(machine=machine))

    def names(self) -> list[str]:
        found = [place.stem for place in self.host.home.glob("*.machine")]
        return sorted([*found, self.host.machine.name])

    def load(self, name: str) -> Machine:
        if name not in self.machines:
            instance = (self.host.home / f"{name}.machine").read_text()
            self.machines[name] = Machine(name=name, spec=Spec(instance_id=instance))
        return self.machines[name]

    def delete(self, name: str, *, force: bool = False) -> None:
        assert force
        (self.host.home / f"{name}.machine").unlink()
        self.machines.pop(name, None)
        self.calls.append(f"deleted {name}")

    def connect(self, machine: Machine) -> Any:
        return _Session(machine)


class _Session:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __enter__(self) -> Machine:
        return self._machine

    def __exit__(self, *_: object) -> None:
        return


@pytest.fixture
def world(host: Host, monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(host)
    monkeypatch.setattr("rave_cli.flows.restore_new.up.up", found.up)
    monkeypatch.setattr("rave_cli.machines.store.load", found.load)
    monkeypatch.setattr(connection, "connect", found.connect)
    monkeypatch.setattr("rave_cli.machines.lifecycle.delete", found.delete)
    monkeypatch.setattr("rave_cli.machines.guest.door.Door.of", lambda machine, _: machine)
    for module in ("restore_new", "restore_test", "backup_status", "backup_schedule"):
        monkeypatch.setattr(f"rave_cli.flows.{module}.stored_names", found.names)
    return found


def new(host: Host, to: str = "dev2", wanted: str = "latest", **more: Any) -> Any:
    told = host.told.append
    return restore_new.new("dev", wanted, to, CATALOG, host.settings, on_event=told, **more)


def test_a_new_machine_is_made_of_what_the_backup_is_of_and_is_healthy(world: World) -> None:
    host = world.host
    done = new(host)
    assert world.machines["dev2"].taken == ITEMS
    assert (done.machine.name, done.resumed) == ("dev2", False)
    assert done.rto >= done.restored.seconds
    assert {"restore", "health"} <= set(done.steps)
    assert pending.left() == []
    with pytest.raises(RaveError, match="dev2") as caught:
        new(host)
    assert caught.value.exit_code == ExitCode.USAGE
    assert world.calls == ["made dev2"]


POINTS = ("asked", "made", "sending", "put", "noted", "healthy")


def test_wherever_it_is_killed_the_next_call_goes_on_and_nothing_is_put_twice(
    world: World,
) -> None:
    host = world.host
    for number, point in enumerate(POINTS):
        to = f"new{number}"
        pid = os.fork()
        if pid == 0:
            doomed(world, to, point)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), (point, status)
        kills.count()
        begun = pending.find(to)
        assert begun is not None
        assert begun.command == f"rave backup restore dev --from {begun.backup} --to {to}"
        host.told.clear()
        done = new(host, to)
        # Where nothing was made it simply begins.
        assert done.resumed == (point != "asked"), point
        assert any("goes on" in event.text for event in host.told) == done.resumed
        again = {} if point in ("noted", "healthy") else ITEMS
        assert world.machines[to].taken == again, point
        assert pending.find(to) is None
    assert len(world.names()) == len(POINTS) + 1


def doomed(world: World, to: str, point: str) -> None:
    """Restore into a new machine, and be killed at a point of it."""
    from rave_cli.flows import restore

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    world.after = lambda step: die() if step == point else None
    if point == "sending":
        Machine._put = die  # type: ignore[method-assign, assignment]
    note, put = pending.note, restore.put

    def noted(record: pending.PendingRestore) -> None:
        note(record)
        if record.put and point == "noted":
            die()

    def put_then(*given: Any, **more: Any) -> Any:
        done = put(*given, **more)
        if point == "put":
            die()
        return done

    pending.note = noted  # type: ignore[assignment]
    restore.put = put_then
    if point == "healthy":
        pending.end = die
    new(world.host, to)
    os._exit(0)


def test_a_machine_that_somebody_else_made_meanwhile_is_not_taken(world: World) -> None:
    host = world.host

    def fails(step: str) -> None:
        if step == "asked":
            raise RaveError("the image cannot be built", exit_code=ExitCode.BUILD)

    world.after = fails
    with pytest.raises(RaveError) as caught:
        new(host)
    assert "this goes on: rave backup restore dev" in caught.value.detail[-1]
    (host.home / "dev2.machine").write_text("4" * 32)
    world.after = lambda _step: None
    with pytest.raises(RaveError) as caught:
        new(host)
    assert caught.value.exit_code == ExitCode.USAGE
    assert world.load("dev2").taken == {}


def test_another_backup_is_not_mixed_into_one_that_has_begun(world: World) -> None:
    host = world.host

    def fails(step: str) -> None:
        if step == "made":
            raise RaveError("it does not start", exit_code=ExitCode.NOT_READY)

    (first,) = host.names()
    world.after = fails
    with pytest.raises(RaveError):
        new(host)
    other = host.now().backup.name
    world.after = lambda _step: None
    with pytest.raises(RaveError, match="has not ended") as caught:
        new(host, wanted=other)
    assert f"--from {first} --to dev2" in (caught.value.hint or "")
    with pytest.raises(RaveError, match="has not ended"):
        new(host, only=("redis",))
    assert [one.to for one in backup_status.report(None, host.settings).pending] == ["dev2"]
    assert new(host).restored.backup.name == first


def test_one_that_does_not_get_healthy_is_told_and_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_new, "HEALTHY_WITHIN", 0.0)
    monkeypatch.setattr(restore_new, "LOOK", 0.0)
    services = {"canaille": {"state": "failed"}, "redis": {"state": "healthy"}}
    sick = {"state": "degraded", "services": services, "failed": []}
    monkeypatch.setattr(Machine, "status", json.dumps(sick))
    with pytest.raises(RaveError, match=r"canaille \(failed\)") as caught:
        new(world.host)
    assert caught.value.exit_code == ExitCode.NOT_READY
    assert world.machines["dev2"].taken == ITEMS
    for said in ("{", "[]", '{"state": "degraded"}'):
        monkeypatch.setattr(Machine, "status", said)
        with pytest.raises(RaveError, match="does not say how it is"):
            new(world.host)


def test_a_host_that_is_lost_is_got_back_from_folder_identity_and_secrets(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/how-to/recover-a-lost-host.md, step by step."""
    host = world.host
    copy, paper = tmp_path / "medium", tmp_path / "kit.txt"
    run("kit", str(paper), "--plain")
    shutil.copytree(host.folder, copy)
    shutil.rmtree(host.home)
    # With the key from paper alone.
    monkeypatch.setenv("RAVE_BACKUP_FOLDER", str(copy))
    with pytest.raises(RaveError) as caught:
        vault.listed(host.settings)
    assert caught.value.exit_code == ExitCode.SECRETS
    line = next(x for x in paper.read_text().splitlines() if len(x.split()) == 8 and len(x) == 71)
    run("key", "--put-back", given=line)
    assert "sound" in run("verify", "--quick")
    host.home.mkdir(exist_ok=True)
    document = json.loads(run("restore", "dev", "--to", "dev2", "--json"))
    assert world.machines["dev2"].taken == ITEMS
    assert document["rtoSeconds"] > 0
    assert document["resumed"] is False


def run(*words: str, given: str = "") -> str:
    done = CliRunner().invoke(
        cli, ["backup", *words], catch_exceptions=False, standalone_mode=False, input=given
    )
    return done.stdout if "--json" in words else done.output


def test_a_kit_is_a_file_of_its_owner_alone_and_the_doctor_asks_for_it(
    world: World, tmp_path: Path
) -> None:
    host = world.host
    (found,) = doctor.examine(["backups"])
    assert (found.status, found.facts["kit"], found.advice) == (
        "warn",
        False,
        "rave backup kit FILE",
    )
    place = tmp_path / "kit.txt"
    with pytest.raises(RaveError, match="12 characters"):
        run("kit", str(place), given="short\n")
    assert not place.exists()
    said = run("kit", str(place), given="correct horse battery\n")
    assert vault.key(host.settings) not in said + place.read_text()
    assert "BEGIN AGE ENCRYPTED FILE" not in said
    assert place.stat().st_mode & 0o777 == 0o600
    with pytest.raises(RaveError, match="already"):
        run("kit", str(place), given="correct horse battery\n")
    with pytest.raises(RaveError, match="with what it opens"):
        run("kit", str(host.folder / "kit.txt"), given="correct horse battery\n")
    (found,) = doctor.examine(["backups"])
    assert (found.status, found.facts["kit"]) == ("ok", True)


def test_a_restore_test_leaves_nothing_and_one_that_was_killed_is_cleared_away(
    world: World,
) -> None:
    host = world.host
    told = host.told.append
    assert ledger.load("dev").restored is None
    pid = os.fork()
    if pid == 0:
        world.after = lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == "made" else None
        restore_test.prove("dev", host.settings, CATALOG, on_event=told)
    os.waitpid(pid, 0)
    kills.count()
    (left,) = pending.left()
    assert left.to in world.names()
    # A machine that is only called so is somebody's.
    (host.home / "restore-test-mine.machine").write_text("5" * 32)
    done = restore_test.prove("dev", host.settings, CATALOG, on_event=told)
    assert (done.backup.machine, set(done.services)) == ("dev", set(ITEMS))
    assert world.names() == ["dev", "restore-test-mine"]
    assert pending.left() == []
    noted = ledger.load("dev").restored
    assert noted is not None
    assert (noted.error, noted.backup) == (None, done.backup.name)


def test_one_that_runs_is_not_cleared_away(world: World) -> None:
    told = world.host.told.append
    target = vault.opened(world.host.settings)
    found = vault.find(target.listing(), "dev", "latest")
    with restore_test.copy(
        target, found, world.host.settings, CATALOG, on_event=told
    ) as one, restore_test.copy(
        target, found, world.host.settings, CATALOG, on_event=told
    ) as other:  # fmt: skip
        assert {one.machine.name, other.machine.name} < set(world.names())
    assert world.names() == ["dev"]


def plan() -> None:
    """Let the machine be backed up each day, by a turn that began half a day ago."""
    minute = (int(time.time()) // 60 + 720) % 1440
    schedule.save(schedule.load().with_(BackupSchedule("dev", "1d", minute, 1, 0, "sun")))


def test_what_is_due_is_made_kept_as_planned_and_proven(world: World) -> None:
    host = world.host
    plan()
    (before,) = host.names()
    ledger.place("dev").unlink()
    done = backup_schedule.run_due(host.settings, lambda: CATALOG, on_event=host.told.append)
    assert done is not None
    assert (done.backed, done.tested, done.failed) == (("dev",), ("dev",), ())
    assert before not in host.names(), "one of each day stays"
    assert len(host.names()) == 1
    again = backup_schedule.run_due(host.settings, lambda: CATALOG, on_event=host.told.append)
    assert again is not None
    assert (again.backed, again.tested, again.failed) == ((), (), ())
    ends = [entry for entry in audit.read().entries if entry.kind == "end"]
    told = [(entry.told.verb, entry.told.subjects, entry.exit_code) for entry in ends]
    verbs = ("backup now", "backup prune", "backup verify")
    assert told == [(verb, ("dev",), 0) for verb in verbs]
    assert world.host.machine.told["due"] > time.time()
    assert json.loads(run("schedule", "list", "--json"))["schedules"][0]["every"] == "1d"


def test_what_fails_is_told_and_tried_again_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.host
    monkeypatch.setattr(schedule.BackupSchedule, "test_is_due", lambda *_: False)
    plan()
    ledger.place("dev").unlink()
    sent, host.machine.sent = host.machine.sent, b"nothing of it"
    done = backup_schedule.run_due(host.settings, lambda: CATALOG, on_event=host.told.append)
    assert done is not None
    assert [name for name, _ in done.failed] == ["dev"]
    findings = backup_status.report("dev", host.settings).machines[0].findings
    assert "failed" in [one.kind for one in findings]
    (found,) = doctor.examine(["backups"])
    assert found.status == "warn"
    host.machine.sent = sent
    host.now()
    findings = backup_status.report("dev", host.settings).machines[0].findings
    assert "failed" not in [one.kind for one in findings]


def test_a_schedule_is_a_script_and_units_and_goes_with_the_last_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.host
    units = host.home / "units"
    monkeypatch.setattr(backup_schedule, "_unit_folder", lambda: (True, units))
    monkeypatch.setattr(backup_schedule, "BOOTED", host.home)
    tools, log = host.home / "bin", host.home / "log"
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    (tools / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SOPS_AGE_KEY", "AGE-SECRET-KEY-1")
    said = run("schedule", "set", "dev", "--every", "6h", "--tested", "never")
    assert "each 6h from 02:30 UTC" in said
    assert sorted(place.name for place in units.iterdir()) == [
        "rave-backup.service", "rave-backup.timer",
    ]  # fmt: skip
    script = host.home / "STATE/rave/backups/run"
    assert script.stat().st_mode & 0o777 == 0o700
    assert str(script) in (units / "rave-backup.service").read_text()
    assert "AGE-SECRET-KEY-1" not in script.read_text()
    assert f"XDG_DATA_HOME={host.home}/DATA" in script.read_text()
    calls = log.read_text().splitlines()
    assert calls[1:3] == ["--user daemon-reload", "--user enable --now rave-backup.timer"]
    run("schedule", "remove", "dev")
    assert list(units.iterdir()) == []
    assert log.read_text().splitlines()[-1] == "--user disable --now rave-backup.timer"
    with pytest.raises(RaveError, match="no schedule"):
        run("schedule", "remove", "dev")
    with pytest.raises(Exception, match="no time of day"):
        run("schedule", "set", "dev", "--at", "half past")


def test_without_systemd_it_is_said_what_to_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = world.host
    monkeypatch.setattr(backup_schedule, "_unit_folder", lambda: (True, host.home / "units"))
    monkeypatch.setattr(backup_schedule, "BOOTED", host.home / "nothing")
    said = run("schedule", "set", "dev")
    assert "*/15 * * * *" in said
    assert f"{host.home}/STATE/rave/backups/run" in said


def test_status_is_one_document_and_an_exit_code(world: World) -> None:
    host = world.host
    document = json.loads(run("status", "--json"))
    assert document["well"] is True
    assert document["machines"][0]["latest"] == host.names()[0]
    assert "no kit" in document["kit"]
    plan()
    document = json.loads(run("status", "dev", "--json"))
    assert document["well"] is False
    assert [one["kind"] for one in document["machines"][0]["findings"]] == ["unproven"]
    schedule.save(schedule.BackupSchedules((BackupSchedule("old", "1d", 0, 1, 0, None),)))
    assert "rave backup schedule remove old" in run("status")


def test_the_recovery_phase_marks_restores_compares_and_leaves_nothing(world: World) -> None:
    host = world.host
    names = host.names()
    steps = Recovery(host.machine, host.settings, CATALOG, host.told.append)  # type: ignore[arg-type]
    found = carried_out(steps)
    assert {found[name].status for name in IDS} == {"pass"}, found
    assert (host.names(), world.names()) == (names, ["dev"])
    assert host.machine.marked == {}
    assert ledger.load("dev").made == ledger.load("dev").made
    assert found["recovery.restore"].data["rto_seconds"] >= 0
