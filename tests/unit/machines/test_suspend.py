"""Suspend and resume: the memory beside the disk, used once, and only where it fits."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import lifecycle, saved, status, store, suspend
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.qemu import memory, ports, processes
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.qemu.stop import stop_process
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


@pytest.fixture
def suspended(running: Machine) -> Machine:
    """A machine that was suspended."""
    suspend.suspend(running)
    return running


def paused(machine: Machine) -> str:
    """Return the state of the fake QEMU as its monitor tells it."""
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor:
        return str(monitor.execute("query-status", timeout=CEILING)["status"])


def test_a_suspended_machine_has_no_qemu_and_its_memory_beside_its_disk(suspended: Machine) -> None:
    assert processes.find(suspended) is None
    assert (suspended.suspended / saved.MEMORY).read_bytes() == b"memory"
    for place in suspended.suspended.iterdir():
        assert place.stat().st_mode & 0o777 == 0o600
    assert suspended.suspended.stat().st_mode & 0o777 == 0o700


def test_it_is_told_as_what_it_is(suspended: Machine) -> None:
    found = status.of(suspended)
    assert (found.state, found.detail) == ("suspended", "go on: rave vm resume demo")


def test_it_goes_on_and_its_memory_is_of_the_past(suspended: Machine) -> None:
    done = suspend.resume(suspended)
    found = processes.find(suspended)
    assert found is not None
    assert (done.pid, done.ports) == (found.pid, ports.of(suspended))
    assert paused(suspended) == "running"
    assert not [entry for entry in suspended.directory.iterdir() if "suspended" in entry.name]


def test_how_its_guest_began_is_told(running: Machine) -> None:
    assert status.of(running).document["origin"] == "cold"
    suspend.suspend(running)
    assert status.of(running).document["origin"] is None
    suspend.resume(running)
    assert status.of(running).document["origin"] == "resumed"


def test_what_the_guest_reported_before_still_holds(suspended: Machine) -> None:
    before = read_events(suspended.stage_file)
    suspend.resume(suspended)
    assert read_events(suspended.stage_file) == before
    assert status.of(suspended).state == "running"


def test_it_can_be_suspended_again_and_again(running: Machine) -> None:
    for _ in range(3):
        suspend.suspend(running)
        suspend.resume(running)
    assert paused(running) == "running"


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("start", []), ("exec", ["--", "true"]), ("ssh", []), ("suspend", []),
        ("set", ["--memory", "1024"]), ("set", ["--disk", "40"]), ("rename", ["other"]),
    ],
)  # fmt: skip
def test_other_verbs_say_that_it_is_suspended(
    suspended: Machine, verb: str, words: list[str]
) -> None:
    done = CliRunner().invoke(cli, ["vm", verb, "demo", *words])
    assert isinstance(done.exception, RaveError)
    assert done.exception.message.startswith("machine demo is suspended")
    assert done.exception.hint == "rave vm resume demo"
    assert suspended.suspended.is_dir()


def test_it_is_not_deleted_by_mistake(suspended: Machine) -> None:
    with pytest.raises(RaveError, match="is suspended"):
        lifecycle.delete("demo")
    lifecycle.delete("demo", force=True)
    assert not suspended.directory.exists()


def test_another_qemu_is_refused_and_the_memory_kept(suspended: Machine, host: Host) -> None:
    host.behave(version=(10, 0, 2))
    with pytest.raises(RaveError, match=r"QEMU was 7\.2\.22 fake, and is 10\.0\.2 fake") as caught:
        suspend.resume(suspended)
    assert "--cold" in caught.value.detail[0]
    assert processes.find(suspended) is None
    assert (suspended.suspended / saved.MEMORY).exists()
    host.behave(version=(7, 2, 22))
    suspend.resume(suspended)


def test_a_changed_disk_is_refused(suspended: Machine) -> None:
    os.utime(suspended.disk)
    with pytest.raises(RaveError, match="its disk was changed meanwhile"):
        suspend.resume(suspended)


def test_a_changed_machine_is_refused(suspended: Machine) -> None:
    other = replace(suspended, spec=replace(suspended.spec, memory_mib=4096))
    with pytest.raises(RaveError, match="command line is another one"):
        suspend.resume(other)


def test_another_processor_counts_where_the_guest_sees_it(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("model name\t: One\nflags\t: a b\n\nmodel name\t: Two\n")
    assert saved.processor("tcg", listing) == ""
    one = saved.processor("kvm", listing)
    listing.write_text("model name\t: One\nflags\t: a b\ncpu MHz: 3\n\n")
    assert saved.processor("kvm", listing) == one
    listing.write_text("model name\t: One\nflags\t: a\n\n")
    assert saved.processor("kvm", listing) != one


@pytest.mark.parametrize("left", [b"", b"mem"])
def test_a_memory_that_is_not_whole_is_refused(suspended: Machine, left: bytes) -> None:
    (suspended.suspended / saved.MEMORY).write_bytes(left)
    with pytest.raises(RaveError, match="not whole"):
        suspend.resume(suspended)


def test_one_that_qemu_cannot_read_is_refused_and_kept(suspended: Machine) -> None:
    (suspended.suspended / saved.MEMORY).write_bytes(b"memorx")
    with pytest.raises(RaveError, match="QEMU cannot") as caught:
        suspend.resume(suspended)
    assert "--cold" in caught.value.detail[0]
    assert processes.find(suspended) is None
    assert suspended.suspended.is_dir()


def test_a_damaged_record_is_named(suspended: Machine) -> None:
    (suspended.suspended / saved.RECORD).write_text("{}")
    with pytest.raises(DamagedRecordError, match="the record of a suspended machine"):
        suspend.resume(suspended)


def test_the_way_out_gives_the_memory_up_and_starts_anew(suspended: Machine, host: Host) -> None:
    host.behave(version=(10, 0, 2))
    done = CliRunner().invoke(cli, ["vm", "resume", "demo", "--cold", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["state"] == "running"
    assert not suspended.suspended.exists()


def test_the_memory_of_a_machine_that_runs_is_not_given_up(running: Machine) -> None:
    with pytest.raises(RaveError, match="is running"):
        suspend.give_up(running)


def test_a_qemu_that_cannot_save_goes_on(running: Machine, host: Host) -> None:
    lifecycle.kill(running)
    host.behave(migration="failed")
    lifecycle.start(running, on_stage=lambda _stage: None)
    with pytest.raises(QmpError, match="QEMU cannot"):
        suspend.suspend(running)
    assert paused(running) == "running"
    assert not running.suspended.exists()


def test_an_interruption_lets_the_guest_go_on(
    running: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_monitor: Qmp, _fd: int) -> None:
        raise Interrupted(2)

    monkeypatch.setattr(memory, "save", interrupt)
    with pytest.raises(Interrupted):
        suspend.suspend(running)
    assert paused(running) == "running"
    assert not running.suspended.exists()


def test_a_full_disk_is_told_before_the_guest_stops(
    running: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspend, "MARGIN", 1 << 40)
    with pytest.raises(RaveError, match="MiB of disk"):
        suspend.suspend(running)
    assert paused(running) == "running"


def test_a_machine_that_another_rave_started_is_not_suspended(running: Machine) -> None:
    record = json.loads((running.directory / store.RECORD).read_text())
    record["machine"]["cpus"] = 7
    (running.directory / store.RECORD).write_text(json.dumps(record))
    with pytest.raises(RaveError, match="another version of rave"):
        suspend.suspend(store.load("demo"))
    assert paused(running) == "running"


def test_a_suspend_that_was_killed_before_it_ended_qemu_can_be_taken_up(
    running: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory is there and QEMU is, too, standing still."""

    def killed(*_words: object, **_options: object) -> None:
        raise SystemExit

    monkeypatch.setattr(suspend, "stop_process", killed)
    with pytest.raises(SystemExit):
        suspend.suspend(running)
    assert running.suspended.is_dir()
    assert status.of(running).state == "suspended"
    with pytest.raises(RaveError, match="is suspended"):
        lifecycle.start(running, on_stage=lambda _stage: None)
    monkeypatch.setattr(suspend, "stop_process", stop_process)
    suspend.resume(running)
    assert paused(running) == "running"
    assert not running.suspended.exists()


def test_what_a_killed_suspend_has_left_is_swept(running: Machine) -> None:
    left = running.suspended.with_name(".suspended-new")
    left.mkdir(mode=0o700)
    (left / saved.MEMORY).write_bytes(b"half")
    suspend.suspend(running)
    assert not left.exists()
    assert suspend.resume(running).ports


def test_a_machine_that_is_not_suspended_is_not_resumed(machine: Machine) -> None:
    with pytest.raises(RaveError, match="is not suspended") as caught:
        suspend.resume(machine)
    assert caught.value.exit_code is ExitCode.USAGE


def test_where_the_files_lie_does_not_matter(suspended: Machine, tmp_path: Path) -> None:
    words = (
        "-name",
        "x",
        "-chardev",
        f"socket,path={suspended.runtime}/a",
        f"file={suspended.directory}/d",
    )
    moved = replace(suspended, runtime=tmp_path / "r,un", directory=tmp_path / "d")
    others = (
        "qemu",
        "-name",
        "x",
        "-chardev",
        f"socket,path={tmp_path}/r,,un/a",
        f"file={tmp_path}/d/d",
    )
    assert saved.shape(words, suspended) == saved.shape((*others, *saved.INCOMING), moved)
