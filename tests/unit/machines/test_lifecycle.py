"""Whole lifecycles against the fake QEMU and sshd: every path of start, stop and delete."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import boot, lifecycle, status, store
from rave_cli.machines.guest import readiness
from rave_cli.machines.guest.readiness import NAMES, Reached
from rave_cli.machines.lifecycle import stop
from rave_cli.machines.qemu import caps, credentials, ports, processes
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from tests.unit.machines.conftest import HEALTHY, TCG, Host, running_fakes
from tests.unit.machines.fake_sshd import FakeSshd
from tests.waiting import CEILING, NEVER, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine


def start(machine: Machine, **options: Any) -> Ready:
    return lifecycle.start(machine, **({"on_stage": lambda _stage: None} | options))


def failed_start(machine: Machine, **options: Any) -> RaveError:
    with pytest.raises(RaveError) as caught:
        start(machine, **options)
    return caught.value


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives one stage hardly any time; the deadlines of the others never come."""

    def only(name: str) -> None:
        stages = (replace(s, seconds=0.25 if s.name == name else NEVER) for s in readiness.STAGES)
        monkeypatch.setattr(readiness, "STAGES", tuple(stages))

    return only


@pytest.fixture
def patient(impatient: Callable[[str], None]) -> None:
    """No deadline comes: what ends a boot is told by what was seen."""
    impatient("none")


def test_a_start_goes_through_every_stage_in_order(machine: Machine, sshd: FakeSshd) -> None:
    seen: list[Reached] = []
    ready = start(machine, on_stage=seen.append)
    assert [stage.name for stage in seen] == list(NAMES)
    assert ready.stages == tuple(seen)
    assert [s.seconds for s in seen] == sorted(s.seconds for s in seen)
    assert ready.ports == {22: sshd.port, 3002: 9}
    assert ready.services == {"postgresql": 1.2, "nginx": 1.1}
    assert ready.secrets == "absent"
    assert set(sshd.logins) == {"rave"}


def test_nobody_connects_before_the_guest_says_that_its_services_run(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    host.behave(steps=[*HEALTHY[:3], {"sleep": 0.3}, HEALTHY[3]])
    connections: list[int] = []
    start(machine, on_stage=lambda _stage: connections.append(sshd.connections))
    assert connections[NAMES.index("services")] == 0


def test_a_ready_guest_is_noticed_within_300_ms(machine: Machine, sshd: FakeSshd) -> None:
    noticed: dict[str, float] = {}
    start(machine, on_stage=lambda stage: noticed.setdefault(stage.name, time.time()))
    written = machine.stage_file.stat().st_mtime
    assert noticed["services"] - written < 0.3


def test_a_started_machine_runs_and_survives_us(machine: Machine, sshd: FakeSshd) -> None:
    ready = start(machine)
    found = status.of(machine)
    assert (found.state, found.pid, found.ports) == ("running", ready.pid, ready.ports)
    assert os.getsid(ready.pid) == ready.pid


def test_credentials_exist_only_while_qemu_starts(machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    assert not machine.credentials.exists()


def test_starting_twice_joins_the_first(machine: Machine, sshd: FakeSshd, host: Host) -> None:
    first = start(machine)
    with machine.stage_file.open("a") as reports:
        line = {"v": 1, "instance": machine.spec.instance_id, "stage": "secrets"}
        reports.write(json.dumps(line | {"uptime": 9.0, "secrets": "installed"}) + "\n")
    second = start(machine)
    assert second.pid == first.pid
    assert (first.joined, first.secrets) == (False, "absent")
    assert (second.joined, second.secrets) == (True, "installed")
    assert len(running_fakes(host.bin)) == 1


@pytest.mark.parametrize("at", NAMES)
def test_after_a_kill_at_any_stage_the_next_command_finds_the_truth(
    machine: Machine, sshd: FakeSshd, host: Host, at: str
) -> None:
    def die(stage: Reached) -> None:
        if stage.name == at:
            os.kill(os.getpid(), signal.SIGKILL)

    # Between two reports the killed command is gone before the boot goes on.
    host.behave(steps=[step for each in HEALTHY for step in (each, {"sleep": 0.1})])
    child = os.fork()
    if child == 0:
        try:
            start(machine, on_stage=die)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert status.of(machine).state in {"starting", "running"}
    (survivor,) = running_fakes(host.bin)
    assert start(machine).pid == survivor
    assert not machine.credentials.exists()
    assert stop(machine).rung == "acpi"
    lifecycle.delete("demo")
    assert running_fakes(host.bin) == []


@pytest.mark.parametrize(
    "case",
    [
        ([{"exit": 3}], "kernel", "exit status 3"),
        ([HEALTHY[0], {"kill": 9}], "systemd", "SIGKILL"),
        ([HEALTHY[0], {"kill": 6}], "systemd", "SIGABRT"),
        (
            [{"console": "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\n"}],
            "systemd",
            "Kernel panic - not syncing: VFS",
        ),
        ([{"console": "You are in emer"}, {"sleep": 0.05}, {"console": "gency mode."}], "systemd",
         "emergency mode"),
        ([*HEALTHY[:2], {"report": {"stage": "failed", "reason": "emergency.target"}}], "services",
         "emergency.target"),
        ([{"report": {"stage": "systemd", "instance": "another"}}], "kernel", "'another'"),
        (
            [{"report": {"stage": "services", "services": {
                "redis": {"state": "failed", "unit": "redis-server.service"},
                "nginx": {"state": "healthy", "unit": "nginx.service"}}}}],
            "services",
            "redis (redis-server.service)",
        ),
        ([{"event": {"name": "GUEST_PANICKED"}}, {"sleep": 5}], "kernel", "panicked"),
        ([{"event": {"name": "SHUTDOWN", "data": {"reason": "guest-reset"}}}, {"sleep": 5}],
         "kernel", "guest-reset"),
        ([{"event": {"name": "BLOCK_IO_ERROR", "data": {"action": "stop", "nospace": True}}},
          {"sleep": 5}], "kernel", "no space left"),
    ],
)  # fmt: skip
def test_what_ends_a_boot_is_told_at_once_with_stage_and_cause(
    machine: Machine, sshd: FakeSshd, host: Host, patient: None, case: tuple[list[Any], str, str]
) -> None:
    steps, stage, cause = case
    host.behave(steps=steps)
    error = failed_start(machine)
    assert error.exit_code == ExitCode.NOT_READY
    assert f"stopped at stage {stage} " in error.message
    assert cause in error.message
    assert error.hint is not None
    assert status.of(machine).state == "stopped"
    assert running_fakes(host.bin) == []


def test_the_last_console_lines_come_with_the_error_and_cannot_paint_the_terminal(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    text = "one\r\n\x1b[31mKernel panic - not syncing: \x1b]0;owned\x07 oops\r\nend trace\r\n"
    host.behave(steps=[{"console": text}, {"sleep": 5}])
    error = failed_start(machine)
    assert "console: one" in error.detail
    assert "console: end trace" in error.detail
    assert "\x1b" not in error.message + "".join(error.detail)
    assert "\x07" not in error.message + "".join(error.detail)


@pytest.mark.parametrize(
    "case",
    [([], "kernel"), (HEALTHY[:1], "systemd"), (HEALTHY[:3], "services")],
)
def test_a_hanging_guest_is_given_up_at_the_stage_it_hangs_in(
    machine: Machine,
    sshd: FakeSshd,
    host: Host,
    impatient: Callable[[str], None],
    case: tuple[list[Any], str],
) -> None:
    steps, stage = case
    host.behave(steps=steps)
    impatient(stage)
    error = failed_start(machine)
    assert error.exit_code == ExitCode.NOT_READY
    assert f"stopped at stage {stage} " in error.message
    assert running_fakes(host.bin) == []


def test_a_qemu_whose_monitor_never_greets_is_given_up(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    host.behave(greet=False)
    error = failed_start(machine, deadline_scale=0.03)
    assert "stopped at stage qemu " in error.message
    assert running_fakes(host.bin) == []


def test_a_qemu_that_dies_at_once_is_quoted(machine: Machine, sshd: FakeSshd, host: Host) -> None:
    host.behave(dies=1, stderr="qemu-system-x86_64: -device foo: no such device\n")
    error = failed_start(machine)
    assert "stopped at stage qemu " in error.message
    assert error.detail == ("qemu: qemu-system-x86_64: -device foo: no such device",)


def test_a_taken_port_is_named(machine: Machine, sshd: FakeSshd, host: Host) -> None:
    host.behave(
        dies=1,
        stderr="qemu-system-x86_64: -netdev user,id=net0: Could not set up host forwarding rule"
        " 'tcp:127.0.0.1:8443-:3002'\n",
    )
    error = failed_start(machine)
    assert error.exit_code == ExitCode.HOST
    assert "127.0.0.1:8443" in error.message
    assert "8443" in str(error.hint)


def test_a_disk_in_use_is_named(machine: Machine, sshd: FakeSshd, host: Host) -> None:
    host.behave(dies=1, stderr='Failed to get "write" lock\nIs another process using the image?\n')
    error = failed_start(machine)
    assert error.exit_code == ExitCode.HOST
    assert "in use by another program" in error.message


def test_another_host_key_is_refused_at_once(machine: Machine, host: Host) -> None:
    from rave_cli.machines.identity import new_ssh_key

    public = machine.login_key.with_suffix(".pub").read_text().split()[1]
    with FakeSshd(new_ssh_key("evil").private, public) as evil:
        host.behave(ports={22: evil.port})
        error = failed_start(machine)
        assert evil.logins == []
    assert "stopped at stage ssh-auth " in error.message
    assert "another host key" in error.message
    assert running_fakes(host.bin) == []


def test_a_refused_login_key_is_told_at_once(machine: Machine, host: Host) -> None:
    with FakeSshd(machine.host_key.read_bytes(), "nobody") as picky:
        host.behave(ports={22: picky.port})
        error = failed_start(machine)
    assert "stopped at stage ssh-auth " in error.message
    assert "refuses the login key" in error.message


def test_an_open_port_without_a_banner_is_no_sign_of_life(
    machine: Machine, host: Host, impatient: Callable[[str], None]
) -> None:
    impatient("ssh-banner")
    with FakeSshd(machine.host_key.read_bytes(), "", banner=False) as mute:
        host.behave(ports={22: mute.port})
        error = failed_start(machine)
    assert "stopped at stage ssh-banner " in error.message
    assert "no banner came" in error.message


def test_an_interruption_ends_qemu_and_leaves_a_machine_that_starts(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    def interrupt(stage: Reached) -> None:
        if stage.name == "systemd":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(machine, on_stage=interrupt)
    assert running_fakes(host.bin) == []
    assert status.of(machine).state == "stopped"
    assert start(machine).ports


def test_a_failed_machine_can_be_kept_to_look_into_it(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    host.behave(steps=[*HEALTHY[:2], {"report": {"stage": "failed", "reason": "no luck"}}])
    failed_start(machine, keep_running=True)
    found = status.of(machine)
    assert found.state == "failed"
    assert found.detail.startswith(
        "the guest gave up: no luck; mend it from inside: rave vm ssh demo"
    )
    assert stop(machine).rung == "acpi"


# What a guest tells with its verdict when its disk is full.
FULL_DISK = {"report": {"stage": "services", "secrets": "absent", "services": {
    "redis": {"state": "failed", "unit": "redis-server.service"}}, "symptoms": {
    "size_bytes": 12 << 30, "free_bytes": 0, "units": [{"unit": "redis-server.service",
    "result": "exit-code", "restarts": 3, "said": ["Can't open the append-only file"]}]}},
}  # fmt: skip


@pytest.mark.parametrize("keep", [False, True])
def test_a_known_cause_is_named_first_with_what_mends_it_and_the_way_in(
    machine: Machine, sshd: FakeSshd, host: Host, keep: bool
) -> None:
    noise = {"console": "systemd[1]: Failed to start redis.\r\n" * 20}
    host.behave(steps=[*HEALTHY[:2], noise, FULL_DISK])
    error = failed_start(machine, keep_running=keep)
    assert error.message.startswith(
        "machine demo did not become ready: the guest's disk is full (0 of 12288 MiB left); stopped"
        " at stage services after"
    )
    assert error.reason == "guest-disk-full"
    assert "--disk 20" in str(error.hint)
    assert ("--keep-running" in str(error.hint)) != keep
    assert any("Can't open the append-only file" in line for line in error.detail)
    assert not any("Failed to start redis" in line for line in error.detail)
    assert len(running_fakes(host.bin)) == keep
    if keep:
        found = status.of(machine)
        assert found.state == "failed"
        assert found.detail.startswith("the guest's disk is full")
        assert "failed: redis (redis-server.service)" in found.detail


def test_repeated_console_lines_are_folded(machine: Machine, sshd: FakeSshd, host: Host) -> None:
    lines = "".join(f"[ {n}.1] Failed to start redis.\r\n" for n in range(11))
    host.behave(steps=[{"console": lines + "Kernel panic - not syncing: oops\r\n"}, {"sleep": 5}])
    detail = failed_start(machine).detail
    assert "console: [ 10.1] Failed to start redis. (… 10 more like it)" in detail
    assert sum("Failed to start" in line for line in detail) == 1


def test_a_fault_without_a_known_cause_names_keep_running(
    machine: Machine, sshd: FakeSshd, host: Host, impatient: Callable[[str], None]
) -> None:
    host.behave(steps=HEALTHY[:3])
    impatient("services")
    assert "rave vm start demo --keep-running" in str(failed_start(machine).hint)


def test_a_running_machine_whose_kernel_has_panicked_is_seen(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    last = "---[ end Kernel panic - not syncing: sysrq triggered crash ]---\r\n"
    host.behave(steps=[*HEALTHY, {"sleep": 0.3}, {"console": last}])
    start(machine)
    until(lambda: status.of(machine).state == "failed")
    assert "the guest's kernel panicked: sysrq triggered crash" in status.of(machine).detail


def test_a_machine_that_is_up_without_its_secrets_says_why(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    unit = {"unit": "rave-secrets.service", "result": "exit-code", "said": ["secrets: no identity"]}
    verdict = json.loads(json.dumps(HEALTHY[3]))
    verdict["report"] |= {"secrets": "failed", "symptoms": {"units": [unit]}}
    host.behave(steps=[*HEALTHY[:3], verdict])
    (note, *_) = start(machine).notes
    assert "could not put its secrets in force: secrets: no identity" in note
    assert "rave secrets install demo" in note


def test_whoever_lets_a_paused_machine_go_on_hears_what_becomes_of_it(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    """A host whose disk is still full pauses it again, of which nobody was told."""
    host.behave(status="io-error")
    start(machine)
    monitor = lifecycle._resume(machine)
    assert monitor is not None
    monitor.close()
    assert status.of(machine).state == "running"
    assert lifecycle._resume(machine) is None


def test_a_boot_that_another_command_began_is_not_ended_by_us(
    machine: Machine, sshd: FakeSshd, host: Host, impatient: Callable[[str], None]
) -> None:
    impatient("services")
    host.behave(steps=HEALTHY[:2])
    failed_start(machine, keep_running=True)
    failed_start(machine)
    assert len(running_fakes(host.bin)) == 1


def test_a_panic_of_an_earlier_boot_does_not_fail_this_one(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    panic = {"console": "Kernel panic - not syncing: that was then\r\n"}
    first = [step | {"report": step["report"] | {"boot": "one"}} for step in HEALTHY[1:3]]
    second = [step | {"report": step["report"] | {"boot": "two"}} for step in HEALTHY[1:]]
    host.behave(steps=[HEALTHY[0], *first, panic, *second])
    machine.runtime.mkdir(parents=True)
    launch_unwatched(machine)
    until(lambda: status.of(machine).state == "running")
    assert "that was then" in machine.console_log.read_text()
    assert start(machine).joined


def test_what_the_host_lacks_stops_a_start_before_qemu(
    machine: Machine, sshd: FakeSshd, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rave_cli.machines.preflight.available_mib", lambda: 100)
    error = failed_start(machine)
    assert error.exit_code == ExitCode.HOST
    assert "100 MiB available" in error.message
    assert not machine.qemu_log.exists()


def test_a_truncated_image_stops_a_start(machine: Machine, sshd: FakeSshd) -> None:
    machine.spec.image.qcow2.write_bytes(b"QFI\xfb")
    assert failed_start(machine).exit_code in (ExitCode.HOST, ExitCode.BUILD)


def test_a_lost_disk_stops_a_start(machine: Machine, sshd: FakeSshd) -> None:
    machine.disk.unlink()
    error = failed_start(machine)
    assert error.exit_code == ExitCode.HOST
    assert "disk of machine demo is gone" in error.message


def test_a_missing_qemu_names_its_package(machine: Machine, host: Host) -> None:
    (host.bin / "qemu-system-x86_64").unlink()
    error = failed_start(machine)
    assert error.exit_code == ExitCode.HOST
    assert "qemu-system-x86" in str(error.hint)


def test_two_starts_at_once_begin_one_qemu(machine: Machine, sshd: FakeSshd, host: Host) -> None:
    outcomes: list[Any] = []

    def attempt() -> None:
        try:
            outcomes.append(start(machine).pid)
        except RaveError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(running_fakes(host.bin)) == 1
    pids = {outcome for outcome in outcomes if isinstance(outcome, int)}
    busy = [outcome for outcome in outcomes if isinstance(outcome, RaveError)]
    assert len(pids) == 1
    assert all("another rave command" in error.message for error in busy)


@pytest.mark.parametrize(
    ("load", "cpus", "factor"), [(0.1, 2, 1), (0.1, 1, 2), (4, 8, 2), (400, 2, 3), (400, 1, 6)]
)
def test_a_busy_host_and_a_single_cpu_get_more_time(
    load: float, cpus: int, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert lifecycle.patience(TCG, cpus) == pytest.approx(factor)
    assert lifecycle.patience(replace(TCG, loop_seconds=0.128), cpus) == pytest.approx(2 * factor)


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
    monkeypatch.setattr("rave_cli.machines.qemu.stop.MONITOR_ANSWERS", answers)
    host.behave(**behaviour)
    machine.runtime.mkdir(parents=True)
    launch_unwatched(machine, greeted=behaviour.get("greet", True))
    report = stop(machine, on_rung=tried.append)
    assert report.rung == rung
    assert tried[-1] == rung
    assert status.of(machine).state == "stopped"


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


def launch_unwatched(machine: Machine, *, greeted: bool = True) -> None:
    """Start QEMU as `start` does, without following the boot or minding a mute monitor."""
    with credentials.written(machine):
        boot.spawn(machine, qemu_argv(machine, TCG))
        until(machine.event_socket.exists)
    patience = CEILING if greeted else 0.2
    with suppress(QmpError), Qmp.connect(machine.event_socket, timeout=patience):
        # A client that was greeted lets the fake play its script.
        until(lambda: machine.stage_file.stat().st_size > 0)


def test_a_guest_that_cannot_hear_the_power_button_is_not_waited_for(
    machine: Machine, sshd: FakeSshd, host: Host, impatient: Callable[[str], None]
) -> None:
    impatient("systemd")
    host.behave(steps=[HEALTHY[0]])
    failed_start(machine, keep_running=True)
    tried: list[str] = []
    assert stop(machine, on_rung=tried.append).rung == "quit"
    assert tried == ["quit"]


def test_a_frozen_qemu_is_killed_and_seen_as_unresponsive(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = start(machine)
    tried = only_waits_for("sigkill", monkeypatch)
    monkeypatch.setattr("rave_cli.machines.qemu.stop.MONITOR_ANSWERS", 0.1)
    monkeypatch.setattr("rave_cli.machines.status.MONITOR_ANSWERS", 0.1)
    os.kill(ready.pid, signal.SIGSTOP)
    assert status.of(machine).state == "unresponsive"
    assert stop(machine, on_rung=tried.append).rung == "sigkill"


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
