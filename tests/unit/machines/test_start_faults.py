"""What ends a start, or makes it end early, and what is said of it first."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode
from rave_cli.machines import lifecycle, status
from rave_cli.machines.lifecycle import stop
from tests.unit.machines.conftest import HEALTHY, Host, running_fakes
from tests.unit.machines.fake_sshd import FakeSshd
from tests.unit.machines.starting import failed_start, impatient, launch_unwatched, patient, start
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.spec import Machine


__all__ = ["impatient", "patient"]


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
    text = "one\r\n\x1b[31mYou are in emergency mode. \x1b]0;owned\x07 oops\r\nits end\r\n"
    host.behave(steps=[{"console": text}, {"sleep": 5}])
    error = failed_start(machine)
    assert "console: one" in error.detail
    assert "console: its end" in error.detail
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


@pytest.mark.timeout(30)
def test_nobody_waits_for_the_banner_of_a_guest_that_has_ended(
    machine: Machine, host: Host, patient: None
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        steps = [*HEALTHY, {"sleep": 0.2}, {"exit": 0}]
        host.behave(steps=steps, ports={22: closed.getsockname()[1]})
        error = failed_start(machine)
    assert "QEMU ended" in error.message


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
    assert stop(machine, patience=0.0).rung == "quit"


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
