"""How machines are ended and deleted, and how those that ended otherwise are seen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import machine as flow
from rave_cli.machines import lifecycle, status, store
from rave_cli.machines.lifecycle import stop
from rave_cli.machines.qemu import caps, ports, processes
from tests.unit.machines.conftest import HEALTHY, Host, running_fakes
from tests.unit.machines.fake_sshd import FakeSshd
from tests.unit.machines.starting import failed_start, impatient, launch_unwatched, patient, start
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.flows.events import Event
    from rave_cli.machines.spec import Machine


__all__ = ["impatient", "patient"]


@pytest.mark.parametrize(
    "case",
    [
        ({}, "acpi"),
        ({"powerdown": False}, "quit"),
        ({"powerdown": False, "quit": False}, "sigterm"),
        ({"powerdown": False, "quit": False, "sigterm": False}, "sigkill"),
        ({"greet": False}, "sigterm"),
    ],
)
def test_the_ladder_down_reports_the_rung_that_worked(
    machine: Machine,
    sshd: FakeSshd,
    host: Host,
    case: tuple[dict[str, bool], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behaviour, rung = case
    tried = only_waits_for(rung, monkeypatch)
    answers = CEILING if behaviour.get("greet", True) else 0.2
    mute(monkeypatch, seconds=answers)
    host.behave(**behaviour)
    machine.runtime.mkdir(parents=True)
    launch_unwatched(machine, greeted=behaviour.get("greet", True))
    report = stop(machine, on_rung=tried.append)
    assert report.rung == rung
    assert tried[-1] == rung
    assert status.of(machine).state == "stopped"


def mute(monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.1) -> None:
    """Give QEMU's monitor so long to answer, whoever asks."""
    monkeypatch.setattr("rave_cli.machines.qemu.stop.BUTTON_TAKEN", seconds)
    monkeypatch.setattr("rave_cli.machines.qemu.stop.QUIT_TAKEN", seconds)
    monkeypatch.setattr("rave_cli.machines.qemu.ports.MONITOR_ANSWERS", seconds)
    monkeypatch.setattr("rave_cli.machines.status.MONITOR_ANSWERS", seconds)


def only_waits_for(rung: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give all time there is to one rung of the ladder, and hardly any to those that do nothing.

    Returns the rungs that were tried; whoever stops a machine must add to it.
    """
    tried: list[str] = []
    real = processes.ended

    def ended(pidfd: int, _seconds: float) -> bool:
        return real(pidfd, CEILING if tried[-1] == rung else 0.05)

    monkeypatch.setattr(processes, "ended", ended)
    return tried


def test_a_guest_that_cannot_hear_the_power_button_is_not_waited_for(
    machine: Machine, sshd: FakeSshd, host: Host, impatient: Callable[[str], None]
) -> None:
    impatient("systemd")
    host.behave(steps=[HEALTHY[0]])
    failed_start(machine, keep_running=True)
    tried: list[str] = []
    assert stop(machine, on_rung=tried.append).rung == "quit"
    assert tried == ["quit"]


def test_a_guest_that_qemu_does_not_run_any_more_is_not_waited_for(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    """It would never hear the power button; who stops it is told what it cost, and why."""
    host.behave(status="internal-error", powerdown=False)
    start(machine)
    events: list[Event] = []
    report = flow.stop(machine, on_event=events.append, patience=10_000)
    assert (report.rung, report.hard, report.still) == ("quit", True, "internal-error")
    (warning,) = [event.text for event in events if event.kind == "warning"]
    assert "ended by quit without shutting down (QEMU did not run it: internal-error)" in warning


def test_a_frozen_qemu_is_seen_as_unresponsive_and_stops_in_order(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stopped it by a signal has lost nothing: it goes on, and shuts its guest down."""
    ready = start(machine)
    os.kill(ready.pid, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        mute(patch)
        assert status.of(machine).state == "unresponsive"
    assert stop(machine).rung == "acpi"


def test_a_monitor_that_takes_its_time_still_gets_the_power_button(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    """A busy host once cost a guest what it had not written: SIGTERM after a second's silence."""
    host.behave(slow=1.2)
    machine.runtime.mkdir(parents=True)
    launch_unwatched(machine)
    assert stop(machine).rung == "acpi"


def test_a_guest_whose_qemu_is_mute_is_told_itself_to_shut_down(
    machine: Machine, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut_down(command: str, _data: bytes) -> tuple[int, bytes, bytes]:
        if command == "sudo -n -- systemctl poweroff --no-block":
            (pid,) = running_fakes(host.bin)
            os.kill(pid, signal.SIGKILL)
        return 0, b"", b""

    public = machine.login_key.with_suffix(".pub").read_text().split()[1]
    with FakeSshd(machine.host_key.read_bytes(), public, handler=shut_down) as server:
        host.behave(greet=False)
        machine.runtime.mkdir(parents=True)
        launch_unwatched(machine, greeted=False)
        # Its guest has got as far as hearing the power button.
        report = {"v": 1, "instance": machine.spec.instance_id, "stage": "systemd", "uptime": 1.5}
        machine.stage_file.write_text(f"{json.dumps(report)}\n")
        mute(monkeypatch)
        monkeypatch.setattr(ports, "listening", lambda _pid: (server.port,))
        done = stop(machine)
    assert (done.rung, done.hard) == ("ssh", False)


def test_a_guest_in_emergency_mode_is_told_itself_as_nothing_in_it_hears_the_power_button(
    machine: Machine, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one cost whoever stopped it the guest's whole patience, and was ended hard."""

    def shut_down(_command: str, _data: bytes) -> tuple[int, bytes, bytes]:
        (pid,) = running_fakes(host.bin)
        os.kill(pid, signal.SIGKILL)
        return 0, b"", b""

    public = machine.login_key.with_suffix(".pub").read_text().split()[1]
    with FakeSshd(machine.host_key.read_bytes(), public, handler=shut_down) as server:
        emergency = {"report": {"stage": "failed", "reason": "emergency mode", "units": "x.mount"}}
        host.behave(steps=[*HEALTHY[:2], emergency], powerdown=False, ports={22: server.port})
        failed_start(machine, keep_running=True)
        tried: list[str] = []
        done = stop(machine, patience=10_000, on_rung=tried.append)
    assert (done.rung, done.hard, tried) == ("ssh", False, ["ssh"])


def test_a_qemu_killed_behind_our_back_is_seen_and_startable(
    machine: Machine, sshd: FakeSshd
) -> None:
    ready = start(machine)
    os.kill(ready.pid, signal.SIGKILL)
    until(lambda: processes.find(machine) is None)
    assert status.of(machine).state == "stopped"
    assert stop(machine).rung == "not-running"
    assert start(machine).pid != ready.pid


def test_ports_of_a_stopped_machine_are_refused_with_the_way_out(machine: Machine) -> None:
    with pytest.raises(RaveError, match="is not running") as caught:
        ports.of(machine)
    assert caught.value.exit_code == ExitCode.NOT_READY
    assert caught.value.hint == "rave vm start demo"


def test_a_paused_machine_is_not_called_running_and_start_resumes_it(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    host.behave(status="io-error")
    start(machine)
    found = status.of(machine)
    assert found.state == "paused"
    assert found.detail.startswith("QEMU stopped the machine because its disk in ")
    assert "io-error; go on: rave vm start demo" in found.detail
    start(machine)
    assert status.of(machine).state == "running"


def test_a_machine_that_forwards_no_ssh_says_so(machine: Machine, host: Host) -> None:
    host.behave(ports={3002: 9})
    error = failed_start(machine, keep_running=True)
    assert "forwards no port to the guest's sshd" in error.message
    with pytest.raises(RaveError, match="forwards no port to its SSH server"):
        ports.ssh(machine)


def test_the_cap_is_put_around_qemu(
    machine: Machine, sshd: FakeSshd, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = host.bin / "systemd-run"
    fake.write_text(
        '#!/bin/sh\necho "$@" >> "$(dirname "$0")/scopes"\n'
        'while [ "$1" != "--" ]; do shift; done\nshift\nexec "$@"\n'
    )
    fake.chmod(0o755)
    (host.bin / "true").symlink_to("/bin/true")
    monkeypatch.setattr("rave_cli.machines.qemu.caps.no_manager", lambda: None)
    ready = start(machine)
    assert set(ready.notes) <= {caps.LINGER_NOTE}
    asked = (host.bin / "scopes").read_text().splitlines()
    assert [line for line in asked if "MemoryMax=2816M" in line and "qemu-system" in line]
    assert [line for line in asked if "logs of rave machine demo" in line and "keeper" in line]
    assert running_fakes(host.bin) == [ready.pid]
    assert stop(machine).rung == "acpi"


def test_deleting_a_running_machine_needs_force(machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    with pytest.raises(RaveError, match="is running") as caught:
        lifecycle.delete("demo")
    assert caught.value.exit_code == ExitCode.USAGE
    lifecycle.delete("demo", force=True)
    assert store.list_machines() == []
    assert processes.find(machine) is None
    assert not machine.runtime.exists()


def test_a_damaged_record_is_told_and_force_is_the_way_out(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    start(machine)
    (machine.directory / "machine.json").write_text('{"version": 1, "mach')
    for attempt in (store.load, lifecycle.delete):
        with pytest.raises(RaveError, match="is damaged") as caught:
            attempt("demo")
        assert caught.value.exit_code == ExitCode.HOST
        assert "delete" not in str(caught.value.hint)
        assert "rave vm delete demo --force" in caught.value.detail[-1]
    lifecycle.delete("demo", force=True)
    assert running_fakes(host.bin) == []
    assert not machine.directory.exists()


def test_private_things_are_private(machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    modes = {
        path: stat.S_IMODE(path.stat().st_mode)
        for path in (machine.directory, machine.identity, machine.runtime, machine.host_key,
                     machine.login_key, machine.age_key)
    }  # fmt: skip
    assert {path.name: mode & 0o077 for path, mode in modes.items() if mode & 0o077} == {}


def test_a_copy_of_a_running_machine_does_not_look_as_if_it_ran(
    machine: Machine, sshd: FakeSshd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data directory that was copied, such as by a backup, holds the machine's very uuid."""
    start(machine)
    shutil.copytree(home / ".local/share", home / "copy")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "copy"))
    copy = store.load("demo")
    assert status.of(copy).state == "stopped"
    assert stop(copy).rung == "not-running"
    with pytest.raises(RaveError, match="is a copy of the one in") as caught:
        start(copy)
    assert caught.value.exit_code == ExitCode.HOST
    assert status.of(machine).state == "running"


def test_a_running_machine_whose_data_directory_is_reached_by_another_name_runs(
    machine: Machine, sshd: FakeSshd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(machine)
    (home / "link").symlink_to(home / ".local/share")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "link"))
    assert status.of(store.load("demo")).state == "running"
    (home / "link").unlink()
    (home / ".local/share").rename(home / "moved")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "moved"))
    assert status.of(store.load("demo")).state == "running"
