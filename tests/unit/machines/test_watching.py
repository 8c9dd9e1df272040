"""Following machines and waiting for them: every change is told, and watching costs nothing."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode
from rave_cli.machines import changes, lifecycle, status, store, watching
from rave_cli.machines.guest.readiness import CORE, NAMES
from rave_cli.machines.states import STATES, TARGETS
from rave_cli.machines.watching import Watcher
from tests.unit.machines.conftest import HEALTHY, Host
from tests.unit.machines.test_vm_commands import rave
from tests.waiting import CEILING, NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.machines.watching import MachineChange
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.fake_sshd import FakeSshd

    Rave = Callable[..., tuple[int, str, str]]

__all__ = ["rave"]


def start(machine: Machine) -> lifecycle.Ready:
    return lifecycle.start(machine, on_stage=lambda _stage: None, deadline_scale=1)


def told(changes: list[MachineChange]) -> list[str]:
    return [f"{c.machine} {c.state if c.what == 'state' else c.stage}" for c in changes]


def until(watcher: Watcher, last: str) -> list[str]:
    """Look until something is told; return all that was told by then."""
    found: list[str] = []
    deadline = time.monotonic() + CEILING
    while not found or found[-1] != last:
        assert time.monotonic() < deadline, found
        watcher.sleep(0.02)
        found += told(watcher.look())
    return found


# --- watching ------------------------------------------------------------------------------------


def test_the_life_of_a_machine_is_told(
    machine: Machine, sshd: FakeSshd, host: Host, plan: Plan, image: Image
) -> None:
    host.behave(steps=[*HEALTHY[:2], {"sleep": 0.3}, *HEALTHY[2:]])
    with Watcher(()) as watcher:
        assert told(watcher.look()) == ["demo stopped"]
        assert watcher.look() == []
        start(machine)
        found = until(watcher, "demo running")
        assert [word for word in found if word != "demo starting"] == [
            "demo systemd", "demo sshd", "demo services", "demo running",
        ]  # fmt: skip
        assert watcher.look() == []
        lifecycle.stop(machine)
        assert until(watcher, "demo stopped")[-1] == "demo stopped"
        store.create(store.new_spec(plan, image, name="web", mode="safe"))
        assert until(watcher, "web stopped") == ["web stopped"]
        lifecycle.delete("demo")
        assert until(watcher, "demo deleted") == ["demo deleted"]
        changes.rename("web", "demo")
        assert until(watcher, "demo stopped") == ["web deleted", "demo stopped"]


def test_a_qemu_that_is_killed_is_noticed_at_once(machine: Machine, sshd: FakeSshd) -> None:
    pid = start(machine).pid
    with Watcher(("demo",)) as watcher:
        assert told(watcher.look()) == ["demo running"]
        os.kill(pid, signal.SIGKILL)
        watcher.sleep(NEVER)
        os.waitpid(pid, 0)
        (change,) = watcher.look()
        assert (change.state, change.pid) == ("stopped", None)
        assert "had not said that it shuts down" in change.detail


@pytest.mark.parametrize("looks", [0, 1], ids=["in the first look", "in a later one"])
def test_a_qemu_that_ends_while_it_is_looked_at_is_noticed(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """A wait for the end of a guest that powers off looks at a QEMU which is about to end: it was
    waited for to the last second.
    """
    pid = start(machine).pid

    def slow(*args: Any) -> status.Status:
        found = seen(*args)
        if time.monotonic() > ends:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            monkeypatch.setattr(status, "of", seen)
        return found

    seen, ends = status.of, math.inf if looks else 0.0
    monkeypatch.setattr(status, "of", slow)
    monkeypatch.setattr(watching, "ASKS", 0.0)
    with Watcher(("demo",)) as watcher:
        assert told(watcher.look()) == ["demo running"]
        if looks:
            ends = 0.0
            watcher.look()
        (change,) = watcher.look()
        assert (change.state, change.pid) == ("stopped", None)


def test_what_leaves_no_trace_is_asked_for(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "ASKS", 0.0)
    monkeypatch.setattr(watching, "QEMU_STARTS", 0.0)
    pid = start(machine).pid
    with Watcher(("demo",)) as watcher:
        watcher.look()
        os.kill(pid, signal.SIGSTOP)
        assert told(watcher.look()) == ["demo unresponsive"]
        os.kill(pid, signal.SIGCONT)
        assert until(watcher, "demo running") == ["demo running"]


def test_a_damaged_record_and_its_repair_are_told(machine: Machine) -> None:
    place = machine.directory / "machine.json"
    whole = place.read_bytes()
    with Watcher(()) as watcher:
        watcher.look()
        place.unlink()
        assert until(watcher, "demo damaged") == ["demo damaged"]
        place.write_bytes(whole)
        assert until(watcher, "demo stopped") == ["demo stopped"]


def test_a_guest_that_starts_anew_is_told(machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    with Watcher(("demo",)) as watcher:
        watcher.look()
        report(machine, stage="stopping")
        assert until(watcher, "demo stopping") == ["demo stopping", "demo stopping"]
        report(machine, stage="systemd", boot="b" * 32)
        (first, second) = until_changes(watcher)
        assert (first.what, first.stage, first.boot) == ("stage", "systemd", "b" * 32)
        assert (second.what, second.state) == ("state", "starting")


def until_changes(watcher: Watcher) -> list[MachineChange]:
    deadline = time.monotonic() + CEILING
    while not (found := watcher.look()):
        assert time.monotonic() < deadline
        watcher.sleep(0.02)
    return found


def report(machine: Machine, **values: Any) -> None:
    line = {"v": 1, "instance": machine.spec.instance_id, "uptime": 2.0} | values
    with machine.stage_file.open("a") as stages:
        stages.write(json.dumps(line) + "\n")


# --- the command ---------------------------------------------------------------------------------


@contextmanager
def watching_process(*words: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "rave_cli", "vm", "watch", *words]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_with_json_each_change_is_an_object_on_a_line_and_ctrl_c_is_its_end(
    machine: Machine, sshd: FakeSshd
) -> None:
    with watching_process("--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["machine"], first["what"], first["state"]) == ("demo", "state", "stopped")
        assert first["time"].endswith("Z")
        pid = start(machine).pid
        lines = [first]
        while lines[-1]["state"] != "running" or lines[-1]["what"] != "state":
            lines.append(json.loads(process.stdout.readline()))
        assert lines[-1]["pid"] == pid
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == ExitCode.INTERRUPTED
        assert [json.loads(line) for line in out.splitlines()] == []
        assert err == ""


def test_it_ends_when_nobody_reads_on_though_nothing_happens(machine: Machine) -> None:
    with watching_process("demo") as process:
        assert process.stdout is not None
        assert " demo stopped" in process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_with_a_timeout_it_ends_by_itself(rave: Rave, machine: Machine) -> None:
    code, out, _ = rave("vm", "watch", "--timeout", "0.3", "--json")
    assert (code, [json.loads(line)["state"] for line in out.splitlines()]) == (0, ["stopped"])


def test_a_name_that_there_is_not_is_refused(rave: Rave, machine: Machine) -> None:
    code, _, err = rave("vm", "watch", "dmeo")
    assert code == ExitCode.USAGE
    assert "there is no machine 'dmeo' (there are: demo)" in err


def test_watching_idle_machines_takes_hardly_any_cpu(
    machine: Machine, sshd: FakeSshd, plan: Plan, image: Image
) -> None:
    """Counted, not timed: of this process alone, so that a busy host changes nothing."""
    start(machine)
    for number in range(4):
        store.create(store.new_spec(plan, image, name=f"idle-{number}", mode="safe"))
    with Watcher(()) as watcher:
        watcher.look()
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_utime
        for _ in range(200):
            assert watcher.look() == []
        used = resource.getrusage(resource.RUSAGE_THREAD).ru_utime - before
    # What 200 looks, 40 s of watching, may take; questions to QEMU come on top each 5 s.
    assert used < 0.4


# --- waiting -------------------------------------------------------------------------------------


def test_what_can_be_waited_for_is_what_there_is(rave: Rave, machine: Machine) -> None:
    assert {*NAMES, CORE, *STATES} < set(TARGETS)
    code, _, err = rave("vm", "wait", "demo", "--for", "servces")
    assert code == ExitCode.USAGE
    for target in TARGETS:
        assert target in err


@pytest.mark.parametrize("target", [*NAMES, CORE, "running"])
def test_a_stage_that_is_reached_is_not_waited_for(
    rave: Rave, machine: Machine, sshd: FakeSshd, target: str
) -> None:
    start(machine)
    code, out, _ = rave("vm", "wait", "demo", "--for", target, "--timeout", "20", "--json")
    document = json.loads(out)
    assert (code, document["name"], document["for"]) == (0, "demo", target)


def test_the_core_is_waited_for_apart_from_what_comes_after_it(
    rave: Rave, machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    core = {"report": {"stage": "core", "services": {}}}
    host.behave(steps=[*HEALTHY[:2], core])
    threading.Thread(target=lambda: _started(machine), daemon=True).start()
    assert rave("vm", "wait", "demo", "--for", "core", "--timeout", "60")[0] == 0
    code, _, err = rave("vm", "wait", "demo", "--for", "services", "--timeout", "0.3")
    assert (code, "its guest reported core last" in err) == (ExitCode.NOT_READY, True)
    lifecycle.kill(machine)


def test_whoever_starts_it_ends_the_wait(rave: Rave, machine: Machine, sshd: FakeSshd) -> None:
    timer = threading.Timer(0.3, start, (machine,))
    timer.start()
    code, out, _ = rave("vm", "wait", "demo", "--for", "ssh-auth", "--timeout", "60")
    timer.join()
    assert code == 0
    assert out.startswith("demo: ssh-auth after ")


def test_secrets_are_waited_for(rave: Rave, machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    timer = threading.Timer(0.3, report, (machine,), {"stage": "secrets", "state": "installed"})
    timer.start()
    assert rave("vm", "wait", "demo", "--for", "secrets", "--timeout", "60")[0] == 0
    timer.join()


def test_out_of_time_it_says_what_was_seen_last(
    rave: Rave, machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    host.behave(steps=HEALTHY[:2])
    threading.Thread(target=lambda: _started(machine), daemon=True).start()
    assert rave("vm", "wait", "demo", "--for", "systemd", "--timeout", "60")[0] == 0
    code, out, err = rave("vm", "wait", "demo", "--timeout", "0.5", "--json")
    document = json.loads(out)
    assert (code, document["reason"]) == (ExitCode.NOT_READY, "wait-timeout")
    assert "did not come to services within 0.5 s: it is starting" in document["error"]
    assert "its guest reported systemd last" in document["error"]
    assert "| console: Linux version" in err
    assert "hint: rave vm status demo" in err
    lifecycle.kill(machine)


def _started(machine: Machine) -> None:
    try:
        start(machine)
    except Exception:  # noqa: BLE001 - it is killed, and that is all right
        return


def test_a_state_is_waited_for(rave: Rave, machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    timer = threading.Timer(0.3, lifecycle.stop, (machine,))
    timer.start()
    assert rave("vm", "wait", "demo", "--for", "stopped", "--timeout", "60")[0] == 0
    timer.join()
    timer = threading.Timer(0.3, lifecycle.delete, ("demo",))
    timer.start()
    code, _, err = rave("vm", "wait", "demo", "--for", "services", "--timeout", "60")
    timer.join()
    assert code == ExitCode.NOT_READY
    assert "was deleted while services was waited for" in err
    assert rave("vm", "wait", "demo", "--for", "deleted")[0] == 0
    assert rave("vm", "wait", "demo")[0] == ExitCode.USAGE


def test_a_wait_of_no_time_is_a_question(rave: Rave, machine: Machine, home: Path) -> None:
    assert rave("vm", "wait", "demo", "--for", "running", "--timeout", "0")[0] == 5
    assert rave("vm", "wait", "demo", "--for", "stopped", "--timeout", "0")[0] == 0
