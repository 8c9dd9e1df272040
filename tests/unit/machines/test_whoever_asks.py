"""Nothing about a running machine depends on who asks: the truth stands in its QEMU's argv."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import machine as flow
from rave_cli.machines import lifecycle, status, store
from rave_cli.machines.guest import readiness
from rave_cli.machines.guest.ssh import connect
from rave_cli.machines.qemu import ports, processes
from tests.unit.machines.fake_sshd import FakeSshd
from tests.waiting import CEILING, NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.flows.events import Event
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host


def start(machine: Machine) -> Ready:
    return lifecycle.start(machine, on_stage=lambda _stage: None)


def log_in_anew(how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ask from another session: its runtime directory is another, none, or not there."""
    if how == "none":
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    else:
        place = tmp_path / "s"
        if how == "another":
            place.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))


ELSEWHERE = ("another", "none", "missing")


@pytest.mark.parametrize("how", ELSEWHERE)
def test_another_session_sees_joins_reaches_and_stops_the_same_machine(
    machine: Machine, sshd: FakeSshd, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = start(machine)
    before = status.of(machine).document
    log_in_anew(how, monkeypatch, tmp_path)
    same = store.load("demo")
    after = status.of(same).document
    changing = {"uptime", "residentMiB", "cpuSeconds", "cpuPercent"}
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert after["state"] == "running"
    second = start(same)
    assert (second.pid, second.joined, second.ports) == (first.pid, True, first.ports)
    with connect(same) as session:
        assert session.run(("true",), timeout=CEILING).ok
    assert lifecycle.stop(same).rung == "acpi"
    lifecycle.delete("demo")


@pytest.mark.parametrize("how", ELSEWHERE)
def test_another_session_deletes_the_sockets_too(
    machine: Machine, sshd: FakeSshd, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start(machine)
    log_in_anew(how, monkeypatch, tmp_path)
    lifecycle.delete("demo", force=True)
    assert not machine.runtime.exists()


def test_a_machine_that_another_session_starts_meanwhile_is_joined(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in_anew("another", monkeypatch, tmp_path)
    stopped = store.load("demo")
    assert stopped.runtime != machine.runtime
    first = start(machine)
    assert start(stopped).pid == first.pid


def test_machines_of_one_name_in_two_data_directories_do_not_meet(
    machine: Machine, sshd: FakeSshd, plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = start(machine)
    home = os.environ["XDG_DATA_HOME"]
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    twin = store.create(store.new_spec(plan, machine.spec.image, name="demo", mode="safe"))
    # The only sshd there is has the first one's key.
    with pytest.raises(RaveError, match="another host key"):
        lifecycle.start(twin, on_stage=lambda _stage: None, keep_running=True)
    lifecycle.delete("demo", force=True)
    monkeypatch.setenv("XDG_DATA_HOME", home)
    found = status.of(store.load("demo"))
    assert (found.state, found.pid) == ("running", first.pid)


def test_a_copy_of_a_running_machine_s_directory_does_not_seem_to_run(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start(machine)
    shutil.copytree(os.environ["XDG_DATA_HOME"], tmp_path / "copy")
    (tmp_path / "link").symlink_to(os.environ["XDG_DATA_HOME"])
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "copy"))
    copy = store.load("demo")
    assert status.of(copy).state == "stopped"
    assert lifecycle.stop(copy).rung == "not-running"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "link"))
    assert status.of(store.load("demo")).state == "running"


@pytest.fixture
def lost(
    machine: Machine, host: Host, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Machine, FakeSshd]]:
    """A running machine whose runtime directory somebody removed, as logind does."""

    def shut_down(command: str, _data: bytes) -> tuple[int, bytes, bytes]:
        if command == "sudo -n -- systemctl poweroff --no-block":
            os.kill(ready.pid, signal.SIGKILL)
        return 0, command.encode(), b""

    public = machine.login_key.with_suffix(".pub").read_text().split()[1]
    with FakeSshd(machine.host_key.read_bytes(), public, handler=shut_down) as server:
        host.behave(ports={22: server.port, 3002: 9})
        ready = start(machine)
        shutil.rmtree(machine.runtime)
        monkeypatch.setattr(status, "QEMU_STARTS", 0.0)
        monkeypatch.setattr(ports, "listening", lambda _pid: (server.port,))
        yield machine, server


def test_a_lost_runtime_directory_is_told_with_the_ways_that_are_left(
    lost: tuple[Machine, FakeSshd],
) -> None:
    found = status.of(store.load("demo"))
    assert found.state == "unresponsive"
    assert f"no monitor at {lost[0].qmp_socket}" in found.detail
    assert "rave vm ssh demo" in found.detail
    assert "rave vm stop demo" in found.detail


def test_a_qemu_that_ends_behind_a_guest_that_has_shut_down_is_not_called_lost(
    lost: tuple[Machine, FakeSshd],
) -> None:
    """It removes its monitor first, and ends after it has written its disk."""
    said = {"v": 1, "instance": lost[0].spec.instance_id, "uptime": 2.0, "stage": "stopping"}
    with lost[0].stage_file.open("a") as stages:
        stages.write(json.dumps(said) + "\n")
    found = status.of(store.load("demo"))
    assert (found.state, found.detail) == ("stopping", "its guest has shut down, and QEMU ends")


def test_starting_a_machine_whose_runtime_directory_is_lost_says_so_at_once(
    lost: tuple[Machine, FakeSshd], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever waited for the guest would wait for ever.
    endless = tuple(replace(stage, seconds=NEVER) for stage in readiness.STAGES)
    monkeypatch.setattr(readiness, "STAGES", endless)
    with pytest.raises(RaveError, match=f"runs, but {lost[0].runtime} is gone") as caught:
        start(store.load("demo"))
    assert caught.value.exit_code == ExitCode.NOT_READY
    assert "rave vm stop demo" in str(caught.value.hint)
    assert status.of(lost[0]).state == "unresponsive"


def test_a_machine_whose_runtime_directory_is_lost_is_still_reached(
    lost: tuple[Machine, FakeSshd],
) -> None:
    assert ports.ssh(lost[0]) == lost[1].port
    with connect(lost[0]) as session:
        assert session.run(("true",), timeout=CEILING).ok


def test_a_machine_whose_runtime_directory_is_lost_shuts_down_in_order(
    lost: tuple[Machine, FakeSshd],
) -> None:
    events: list[Event] = []
    report = flow.stop(store.load("demo"), on_event=events.append)
    assert (report.rung, report.hard) == ("ssh", False)
    assert [event.kind for event in events] == ["begin", "progress", "end"]


def test_only_a_guest_that_cannot_be_asked_at_all_is_ended_with_a_warning(
    lost: tuple[Machine, FakeSshd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "listening", lambda _pid: ())
    events: list[Event] = []
    report = flow.stop(store.load("demo"), on_event=events.append)
    assert (report.rung, report.hard) == ("sigterm", True)
    (warning,) = [event.text for event in events if event.kind == "warning"]
    assert "was ended by sigterm without shutting down" in warning


def test_a_descriptor_that_is_closed_while_they_are_listed_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU opens and closes some all the time; then it looked as if it listened nowhere."""
    folder = tmp_path / "42"
    for place in ("fd", "net"):
        (folder / place).mkdir(parents=True)
    (folder / "fd/3").symlink_to("socket:[77]")
    # Listed, and no link to be read any more.
    (folder / "fd/4").touch()
    row = "0: 0100007F:0BBA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1"
    (folder / "net/tcp").write_text(f"sl local_address rem_address st\n{row}\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert ports.listening(42) == (3002,)
