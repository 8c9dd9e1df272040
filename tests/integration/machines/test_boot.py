"""Boots of the tiny guest under the real QEMU: what goes well, and each way it does not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images.manifest import BootMethod
from rave_cli.machines import lifecycle, status, store, suspend
from rave_cli.machines import logs as reading
from rave_cli.machines.guest import readiness, ssh, way
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.lifecycle import stop
from rave_cli.machines.logfiles import dropped, older
from rave_cli.machines.qemu import forwarding, logs, ports, processes, usernet
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.machines.spec import Forward
from rave_cli.smoke import onhost
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.qemu.added import HostForward
    from rave_cli.machines.spec import Machine
    from tests.integration.machines.conftest import MakeMachine

pytestmark = pytest.mark.integration


def boot(machine: Machine, *, keep_running: bool = True) -> tuple[RaveError, list[Reached]]:
    """Start a tiny guest, which can never let anybody in; returns the error and the stages."""
    seen: list[Reached] = []
    with pytest.raises(RaveError) as caught:
        lifecycle.start(machine, on_stage=seen.append, keep_running=keep_running)
    return caught.value, seen


def test_a_guest_boots_reports_is_seen_and_stops_in_order(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    error, seen = boot(machine)
    assert [s.name for s in seen] == ["qemu", "kernel", "systemd", "services", "ssh-banner"]
    assert "stopped at stage ssh-auth " in error.message

    found = status.of(machine)
    assert (found.state, found.secrets) == ("running", "absent")
    assert found.ports is not None
    assert set(found.ports) == {22, 3002}
    with ssh.await_banner(machine, found.ports[22], time.monotonic() + CEILING) as connection:
        assert connection.recv(64).startswith(b"SSH-2.0-tiny")

    (report,) = [e for e in read_events(machine.stage_file) if e.stage == "services"]
    assert report.instance == machine.spec.instance_id
    assert stop(machine).rung == "acpi"
    assert status.of(machine).state == "stopped"


def test_qemu_runs_confined_and_its_argv_holds_no_secret(make: MakeMachine) -> None:
    machine = make("tiny.do=hang")
    threading.Thread(target=boot, args=(machine,), daemon=True).start()
    until(lambda: bool(read_events(machine.stage_file)))
    running = wait_for_process(machine)
    argv = "\0".join(running.argv)
    private = b"".join(machine.host_key.read_bytes().splitlines()[1:-1]).decode()
    assert machine.spec.instance_id not in argv
    assert private[:40] not in argv
    status = Path(f"/proc/{running.pid}/status").read_text()
    assert "Seccomp:\t2" in status
    assert not machine.credentials.exists()
    listening = listening_addresses(running.pid)
    assert {address for address, _ in listening} == {"127.0.0.1"}
    os.kill(running.pid, signal.SIGKILL)


@pytest.mark.parametrize(("network", "reached"), [("isolated", 0), ("nat", 1)])
def test_an_isolated_guest_cannot_reach_out_and_a_nat_guest_can(
    make: MakeMachine, network: str, reached: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        machine = make(
            f"tiny.do=ready tiny.port={listener.getsockname()[1]}",
            network="nat" if network == "nat" else "isolated",
        )
        boot(machine)
    (report,) = [e for e in read_events(machine.stage_file) if e.stage == "services"]
    assert report.data["reaches_host"] == reached


@pytest.mark.parametrize(
    ("do", "cause", "reason"),
    [
        ("panic", "the guest's kernel panicked: Kernel panic - not syncing", "guest-kernel-panic"),
        ("emergency", "the guest is in emergency mode", "guest-emergency"),
        ("failed", "the guest gave up: emergency.target", "guest-emergency"),
        ("poweroff", "the machine went down (guest-shutdown)", None),
    ],
)
def test_a_boot_that_ends_is_told_at_once(
    make: MakeMachine, do: str, cause: str, reason: str | None
) -> None:
    machine = make(f"tiny.do={do}")
    error, _ = boot(machine, keep_running=False)
    # QEMU passes a report on later than console or event, so the end may overtake the last stage.
    assert re.search("stopped at stage (systemd|services) ", error.message)
    assert cause in error.message
    assert error.reason == reason
    assert error.exit_code == ExitCode.NOT_READY
    assert any(line.startswith("console: ") for line in error.detail)
    assert status.of(machine).state == "stopped"
    assert processes.find(machine) is None


def test_a_port_that_another_program_has_is_named(make: MakeMachine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        error, seen = boot(make("tiny.do=ready", forwards=(Forward(port, 3002),)))
    assert error.exit_code == ExitCode.HOST
    assert f"port 127.0.0.1:{port} of the host is taken" in error.message
    assert seen == []


def test_a_disk_that_another_machine_uses_is_named(make: MakeMachine) -> None:
    first, second = make("tiny.do=ready"), make("tiny.do=ready", name="second")
    boot(first)
    second.disk.unlink()
    second.disk.symlink_to(first.disk)
    error, _ = boot(second)
    assert error.exit_code == ExitCode.HOST
    assert "disk of machine second is in use" in error.message


def test_a_damaged_disk_is_quoted(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    machine.disk.write_bytes(b"not a disk" * 1000)
    error, _ = boot(machine)
    assert "stopped at stage qemu " in error.message
    assert any("qcow2" in line for line in error.detail)


def test_a_full_disk_pauses_the_machine_says_so_and_start_goes_on(
    small_disk: Path, make: MakeMachine
) -> None:
    machine = make("tiny.do=fill")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 << 20))
    error, _ = boot(machine)
    assert "no space left for its disk" in error.message
    assert error.reason == "host-disk-full"
    assert "the host's disk is full (" in error.message
    assert str(error.hint).startswith(f"df -h {machine.directory}")
    found = status.of(machine)
    assert found.state == "paused"
    assert found.detail.startswith("the host's disk is full (")
    assert "io-error; go on: rave vm start tiny" in found.detail
    # Nothing was freed: it pauses again, which is told at once, too.
    began = time.monotonic()
    assert boot(machine)[0].reason == "host-disk-full"
    assert time.monotonic() - began < 20
    filler.unlink()
    _, seen = boot(machine)
    assert "services" in [stage.name for stage in seen]
    assert stop(machine).rung == "acpi"


def test_a_memory_that_fills_the_disk_is_told_as_that_and_the_guest_goes_on(
    small_disk: Path, make: MakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    # Another program may fill the disk after we have looked.
    monkeypatch.setattr(suspend, "refuse_full_disk", lambda *_words: None)
    with pytest.raises(RaveError, match="no space left") as caught:
        suspend.suspend(machine)
    assert caught.value.exit_code == ExitCode.HOST
    assert (status.of(machine).state, machine.suspended.exists()) == ("running", False)
    assert stop(machine).rung == "acpi"


@pytest.mark.parametrize("freed", [False, True])
def test_a_machine_that_a_full_disk_paused_is_stopped_at_once_and_in_order_if_it_can_write_again(
    small_disk: Path, make: MakeMachine, freed: bool
) -> None:
    machine = make("tiny.do=fill")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 << 20))
    boot(machine)
    assert status.of(machine).state == "paused"
    if freed:
        filler.unlink()
    # Who waited for its guest would wait for hours.
    report = stop(machine, patience=10_000)
    expected = ("acpi", False, "") if freed else ("quit", True, "io-error")
    assert (report.rung, report.hard, report.still) == expected


def test_a_qemu_killed_while_it_boots_is_told_and_the_machine_starts_again(
    make: MakeMachine,
) -> None:
    machine = make("tiny.do=hang")

    def kill() -> None:
        until(lambda: bool(read_events(machine.stage_file)))
        os.kill(wait_for_process(machine).pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    error, _ = boot(machine)
    assert "QEMU was killed (SIGKILL" in error.message
    # Another program of this host may have been killed for lack of memory meanwhile.
    assert error.reason in {"qemu-killed", "host-out-of-memory"}
    assert status.of(machine).state == "stopped"


def test_a_frozen_qemu_is_seen_and_shuts_its_guest_down_in_order(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    os.kill(wait_for_process(machine).pid, signal.SIGSTOP)
    assert status.of(machine).state == "unresponsive"
    assert stop(machine).rung == "acpi"


def test_a_monitor_that_serves_somebody_else_first_still_gets_the_power_button(
    make: MakeMachine,
) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as other:
        leaves = threading.Timer(2.0, other.close)
        leaves.start()
        assert stop(machine).rung == "acpi"
        leaves.join()


def test_a_guest_that_ignores_the_power_button_is_ended_by_quit(make: MakeMachine) -> None:
    machine = make("tiny.do=hang")
    threading.Thread(target=boot, args=(machine,), daemon=True).start()
    until(lambda: bool(read_events(machine.stage_file)))
    assert stop(machine, patience=0.5).rung == "quit"


def test_an_interrupted_start_leaves_no_qemu(make: MakeMachine) -> None:
    machine = make("tiny.do=hang")

    def interrupt(stage: Reached) -> None:
        if stage.name == "kernel":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lifecycle.start(machine, on_stage=interrupt)
    assert processes.find(machine) is None


@pytest.mark.parametrize("age", ["", "tiny.old"])
def test_after_a_reboot_inside_the_new_boot_s_verdict_counts(
    make: MakeMachine, age: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This guest gives one verdict, and no better one will come.
    monkeypatch.setattr(readiness, "RECOVERS", 1.0)
    machine = make(f"tiny.do=reboot {age}")
    boot(machine)
    assert status.of(machine).state == "running"
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor:
        monitor.execute("system_powerdown", timeout=CEILING)
    seen = ["running"]

    def settled() -> bool:
        state = status.of(machine).state
        if state != seen[-1]:
            seen.append(state)
        return state == "failed"

    until(settled)
    assert seen == ["running", *([] if age else ["stopping"]), "starting", "failed"]
    assert status.of(machine).detail == "failed: tiny (tiny.service)"
    error, _ = boot(machine)
    assert "failed: tiny (tiny.service)" in error.message
    events = read_events(machine.stage_file)
    assert [event.stage for event in events] == ["systemd", "services"]
    assert onhost.judge_stages(events, machine.spec.instance_id).detail.endswith(
        "no report of sshd; tiny (tiny.service) was not healthy"
    )


@pytest.mark.parametrize("do", ["flood", "shout"])
def test_a_guest_that_writes_without_end_fills_neither_disk_nor_memory(
    make: MakeMachine, do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An emulated serial port is slow.
    monkeypatch.setattr(logs, "MOST_CONSOLE", 1 << 17)
    machine = make(f"tiny.do={do}")
    log = machine.stage_file if do == "flood" else machine.console_log
    most = logs.MOST_STAGES if do == "flood" else logs.MOST_CONSOLE
    threading.Thread(target=boot, args=(machine,), daemon=True).start()
    until(lambda: dropped(log) > most)
    held = sum(part.stat().st_size for part in (log, older(log)) if part.exists())
    assert 0 < held <= 2 * most
    assert status.of(machine).state in {"running", "starting"}
    began = time.process_time()
    found = reading.lines(machine, log, last=None, follow=False)
    assert max(len(line) for line in found) <= reading.LONGEST_LINE
    assert time.process_time() - began < 30
    assert stop(machine, patience=0.0).rung == "quit"


def test_the_way_that_no_ban_closes_serves_one_after_the_other(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    assert (
        machine.way_socket.stat().st_mode & 0o077 == 0 or machine.runtime.stat().st_mode == 0o40700
    )
    for number in range(1, 6):
        place, instance = str(machine.way_socket), machine.spec.instance_id
        connection = way.reach(place, instance, time.monotonic() + CEILING)
        assert connection is not None
        with connection:
            banner = f"SSH-2.0-way{number}\r\n".encode()
            assert connection.recv(len(banner), socket.MSG_WAITALL) == banner
    # Who does not know the word gets nothing.
    assert way.reach(str(machine.way_socket), "0" * 32, time.monotonic() + 1) is None
    # Two at once: the second waits until the first is gone.
    first = way.reach(str(machine.way_socket), instance, time.monotonic() + CEILING)
    assert first is not None
    assert way.reach(str(machine.way_socket), instance, time.monotonic() + 0.5) is None
    first.close()
    again = way.reach(str(machine.way_socket), instance, time.monotonic() + CEILING)
    assert again is not None
    again.close()


def host_forwards(machine: Machine) -> list[HostForward]:
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor:
        return usernet.parse(monitor.human("info usernet", timeout=CEILING))


def test_the_monitor_is_free_while_ports_are_tried(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    own = status.of(machine).ports
    with usernet.temporary(machine, [22, 5432]) as extra:
        assert set(extra) == {22, 5432}
        with socket.create_connection(extra[22], 10) as connection:
            assert connection.recv(7) == b"SSH-2.0"
        found = status.of(machine)
        assert (found.state, found.ports) == ("running", own)
        assert len(host_forwards(machine)) == 4
    assert len(host_forwards(machine)) == 2


def test_a_forward_that_is_added_leads_in_until_it_is_removed(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    own = status.of(machine).ports
    made = forwarding.add(machine, Forward(0, 22))
    with socket.create_connection((made.address, made.host), CEILING) as connection:
        assert connection.recv(7) == b"SSH-2.0"
    with pytest.raises(RaveError, match="is a forward of machine tiny already"):
        forwarding.add(machine, Forward(made.host, 22))
    assert status.of(machine).ports == own
    forwarding.remove(machine, made.host)
    assert len(host_forwards(machine)) == 2
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((made.address, made.host), CEILING)


def test_forwards_that_a_killed_command_left_are_taken_back_by_the_next(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    own = status.of(machine).ports
    child = os.fork()
    if child == 0:
        with usernet.temporary(machine, range(5000, 5037)):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(host_forwards(machine)) == 2 + 37
    assert status.of(machine).ports == own
    assert len(host_forwards(machine)) == 2
    # What rave 0.1.0 left looks like this.
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        monitor.human(f"hostfwd_add net0 tcp:127.0.0.1:{port}-:5432", timeout=CEILING)
    assert ports.of(machine) == own
    assert len(host_forwards(machine)) == 2


@pytest.mark.parametrize("how", ["another", "none"])
def test_another_session_sees_joins_reaches_and_stops_the_same_machine(
    make: MakeMachine, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    before = status.of(machine)
    if how == "none":
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    same = store.load("tiny")
    after = status.of(same)
    assert (after.state, after.pid, after.ports) == ("running", before.pid, before.ports)
    assert after.secrets == before.secrets == "absent"
    assert ports.ssh(same) == (before.ports or {})[22]
    error, seen = boot(same)
    assert "stopped at stage ssh-auth " in error.message
    assert [stage.name for stage in seen][-1] == "ssh-banner"
    assert stop(same).rung == "acpi"
    assert not processes.find(machine)


def test_a_machine_whose_runtime_directory_is_lost_is_reached_through_what_qemu_listens_on(
    make: MakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    before = ports.of(machine)
    shutil.rmtree(machine.runtime)
    running = wait_for_process(machine)
    assert set(ports.listening(running.pid)) == {before[22], before[3002]}
    assert ports.ssh(machine) == before[22]
    monkeypatch.setattr(status, "QEMU_STARTS", 0.0)
    assert "rave vm stop tiny" in status.of(store.load("tiny")).detail
    error, seen = boot(machine)
    assert "runs, but" in error.message
    assert seen == []
    # The tiny guest lets nobody in, so nobody can tell it to shut down.
    report = stop(machine)
    assert (report.rung, report.hard) == ("sigterm", True)


def test_a_damaged_record_of_a_running_machine_can_still_be_deleted(make: MakeMachine) -> None:
    machine = make("tiny.do=ready")
    boot(machine)
    (machine.directory / store.RECORD).write_text("{")
    lifecycle.delete("tiny", force=True)
    assert processes.find(machine) is None
    assert store.list_machines() == []


def wait_for_process(machine: Machine) -> processes.Process:
    until(lambda: processes.find(machine) is not None)
    found = processes.find(machine)
    assert found is not None
    return found


def listening_addresses(pid: int) -> set[tuple[str, int]]:
    """Return where a process listens on TCP, from /proc (proc_pid_net(5))."""
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {found[1] for link in links if (found := re.match(r"socket:\[(\d+)\]", link))}
    found_addresses = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                host, port = fields[1].split(":")
                packed = bytes.fromhex(host)[::-1]
                name = socket.inet_ntoa(packed) if len(packed) == 4 else host
                found_addresses.add((name, int(port, 16)))
    return found_addresses


# Sixteen-bit code for a boot sector: writes what follows it to the first serial port, and halts.
BOOT_SECTOR = bytes.fromhex("31c08ed8be157cbaf803ac84c07403eeebf8f4ebfd") + b"from the disk\r\n\0"


def test_an_image_with_its_own_boot_loader_boots_from_its_disk(
    make: MakeMachine, base_image: Image
) -> None:
    raw = base_image.qcow2.with_suffix(".raw")
    raw.write_bytes(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(base_image.qcow2)]
    subprocess.run(argv, check=True)
    image = replace(
        base_image, size=base_image.qcow2.stat().st_size, boot=BootMethod("disk", None, None, "")
    )
    machine = make("", image=image)

    def enough(stage: Reached) -> None:
        if stage.name == "kernel":
            until(lambda: b"from the disk\r\n" in machine.console_log.read_bytes())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lifecycle.start(machine, on_stage=enough)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_rave_says_by_what_and_leaves_no_qemu(
    make: MakeMachine, number: signal.Signals
) -> None:
    machine = make("tiny.do=hang")
    argv = [sys.executable, "-m", "rave_cli", "vm", "start", "tiny"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as rave:
        until(lambda: bool(read_events(machine.stage_file)))
        rave.send_signal(number)
        out, err = rave.communicate(timeout=CEILING)
    assert rave.returncode == 128 + number
    assert out == b""
    assert (b"interrupted" if number == signal.SIGINT else number.name.encode()) in err
    assert b"Traceback" not in err
    assert processes.find(machine) is None
    assert status.of(machine).state == "stopped"
