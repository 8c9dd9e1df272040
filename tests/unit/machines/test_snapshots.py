"""Snapshots: disk and memory of one moment, whole or not at all, and what is put back from them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from rave_cli import paths
from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import lifecycle, saved, snapshots, status, suspend
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.records import DamagedRecordError
from rave_cli.signals import Interrupted
from tests.waiting import CEILING

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd


@pytest.fixture
def running(machine: Machine, sshd: FakeSshd) -> Machine:
    """A machine that runs."""
    lifecycle.start(machine, on_stage=lambda _stage: None)
    return machine


def state_of(machine: Machine) -> str:
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor:
        return str(monitor.execute("query-status", timeout=CEILING)["status"])


def test_of_a_stopped_machine_the_disk_is_kept(machine: Machine) -> None:
    machine.disk.write_bytes(b"then")
    found = snapshots.create(machine, "one")
    assert found.record.state is None
    assert (found.place / snapshots.DISK).read_bytes() == b"then"
    machine.disk.write_bytes(b"now")
    snapshots.restore(machine, "one")
    assert machine.disk.read_bytes() == b"then"
    assert status.of(machine).state == "stopped"
    for place in found.place.iterdir():
        assert place.stat().st_mode & 0o777 == 0o600


def test_a_running_machine_goes_on_and_can_be_put_back_running(running: Machine) -> None:
    before = running.disk.read_bytes()
    snapshots.create(running, "one")
    assert state_of(running) == "running"
    lifecycle.stop(running)
    running.disk.write_bytes(b"changed")
    snapshots.restore(running, "one")
    assert status.of(running).state == "suspended"
    suspend.resume(running)
    assert state_of(running) == "running"
    assert running.disk.read_bytes() == before


def test_what_the_guest_reported_later_is_not_taken_for_its_present(running: Machine) -> None:
    snapshots.create(running, "one")
    last = json.loads(running.stage_file.read_text().splitlines()[-1])
    with running.stage_file.open("a") as reports:
        reports.write(json.dumps(last | {"stage": "stopping"}) + "\n")
    lifecycle.stop(running)
    snapshots.restore(running, "one")
    suspend.resume(running)
    assert status.of(running).state == "running"


def test_a_snapshot_can_be_restored_again_and_again(running: Machine) -> None:
    snapshots.create(running, "one")
    for _ in range(2):
        lifecycle.stop(running)
        snapshots.restore(running, "one")
        suspend.resume(running)
    assert snapshots.names(running) == ["one"]


def test_of_a_suspended_machine_the_memory_is_kept_too(running: Machine) -> None:
    suspend.suspend(running)
    snapshots.create(running, "one")
    suspend.give_up(running)
    snapshots.restore(running, "one")
    assert suspend.resume(running).ports


def test_a_memory_of_before_does_not_come_back_over_another_disk(running: Machine) -> None:
    lifecycle.stop(running)
    snapshots.create(running, "cold")
    lifecycle.start(running, on_stage=lambda _stage: None)
    suspend.suspend(running)
    snapshots.restore(running, "cold")
    assert status.of(running).state == "stopped"
    assert not running.suspended.exists()


def test_a_running_machine_is_not_put_back(running: Machine) -> None:
    snapshots.create(running, "one")
    with pytest.raises(RaveError, match="is running"):
        snapshots.restore(running, "one")
    assert state_of(running) == "running"


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", ".new-x", "-a", "x" * 64])
def test_a_name_follows_the_rule(machine: Machine, name: str) -> None:
    for call in (snapshots.create, snapshots.restore, snapshots.delete):
        with pytest.raises(RaveError, match="cannot be a snapshot's name") as caught:
            call(machine, name)
        assert caught.value.exit_code is ExitCode.USAGE


def test_a_name_that_is_taken_or_unknown_is_told(machine: Machine) -> None:
    snapshots.create(machine, "one")
    with pytest.raises(RaveError, match="has a snapshot one already"):
        snapshots.create(machine, "one")
    with pytest.raises(RaveError, match=r"no snapshot 'two' \(it has: one\)"):
        snapshots.restore(machine, "two")
    snapshots.delete(machine, "one")
    with pytest.raises(RaveError, match=r"no snapshot 'one' \(it has: none\)"):
        snapshots.delete(machine, "one")


def test_one_of_another_image_is_refused(machine: Machine) -> None:
    snapshots.create(machine, "one")
    image = replace(machine.spec.image, sha256="f" * 64)
    other = replace(machine, spec=replace(machine.spec, image=image))
    with pytest.raises(RaveError, match="of another image"):
        snapshots.restore(other, "one")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": (10, 0, 2)}, "QEMU was 7.2.22 fake, and is 10.0.2 fake"),
        ({"cpu": "another"}, "the host has another processor"),
    ],
    ids=["qemu", "cpu"],
)
def test_a_memory_of_another_qemu_or_processor_is_refused_and_a_cold_boot_is_the_way_out(
    running: Machine,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    why: str,
) -> None:
    disk = running.disk.read_bytes()
    snapshots.create(running, "one")
    lifecycle.stop(running)
    snapshots.restore(running, "one")
    if "cpu" in change:
        monkeypatch.setattr(saved, "processor", lambda _kind: change["cpu"])
    else:
        host.behave(**change)
    with pytest.raises(RaveError, match="cannot go on where it was suspended") as caught:
        suspend.resume(running)
    assert why in caught.value.message
    assert "rave vm resume demo --cold" in caught.value.detail[0]
    assert processes.find(running) is None
    done = CliRunner().invoke(cli, ["vm", "resume", "demo", "--cold", "--json"])
    assert done.exit_code == 0, done.output
    assert state_of(running) == "running"
    assert running.disk.read_bytes() == disk


def test_a_damaged_record_is_named(machine: Machine) -> None:
    place = snapshots.create(machine, "one").place
    (place / snapshots.RECORD).write_text("[]")
    with pytest.raises(DamagedRecordError, match="the record of a snapshot"):
        snapshots.restore(machine, "one")


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), Interrupted(2)])
def test_what_breaks_off_leaves_nothing_and_the_guest_goes_on(
    running: Machine, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def broken(_source: Path, _target: Path) -> None:
        raise fault

    monkeypatch.setattr(paths, "copy_private", broken)
    with pytest.raises(type(fault)):
        snapshots.create(running, "one")
    assert state_of(running) == "running"
    assert list(snapshots.folder(running).iterdir()) == []


def test_a_restore_that_breaks_off_before_the_exchange_has_changed_nothing(
    running: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots.create(running, "one")
    suspend.suspend(running)
    real = paths.copy_private

    def broken(source: Path, target: Path) -> None:
        if source.name == saved.MEMORY:
            raise Interrupted(15)
        real(source, target)

    monkeypatch.setattr(paths, "copy_private", broken)
    with pytest.raises(Interrupted):
        snapshots.restore(running, "one")
    assert not running.disk.with_name(".disk-new.qcow2").exists()
    assert suspend.resume(running).ports, "the state of before still fits the disk of before"


def test_what_killed_commands_have_left_is_swept_and_not_shown(machine: Machine) -> None:
    for name in (".new-x", ".old-y"):
        (snapshots.folder(machine) / name).mkdir(parents=True)
    assert snapshots.names(machine) == []
    snapshots.create(machine, "one")
    assert [entry.name for entry in snapshots.folder(machine).iterdir()] == ["one"]


def test_they_are_listed_for_people_and_programs(machine: Machine) -> None:
    snapshots.create(machine, "one")
    done = CliRunner().invoke(cli, ["vm", "snapshot", "list", "demo"])
    assert done.output.startswith("one  ")
    document = json.loads(
        CliRunner().invoke(cli, ["vm", "snapshot", "list", "demo", "--json"]).stdout
    )
    assert [(entry["name"], entry["running"]) for entry in document] == [("one", False)]


def test_they_go_with_the_machine(machine: Machine) -> None:
    snapshots.create(machine, "one")
    lifecycle.delete("demo")
    assert not machine.directory.exists()
    assert processes.find(machine) is None
