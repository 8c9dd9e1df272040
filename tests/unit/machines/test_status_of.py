"""What is told of machines comes from the world; what happened to them is told as what it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import RaveError
from rave_cli.machines import lifecycle, runs, status, store
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from tests.unit.machines.test_vm_commands import rave
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.fake_sshd import FakeSshd

    Rave = Callable[..., tuple[int, str, str]]

__all__ = ["rave"]


@pytest.fixture
def running(machine: Machine, sshd: FakeSshd) -> lifecycle.Ready:
    return lifecycle.start(machine, on_stage=lambda _stage: None, deadline_scale=1)


def told(machine: Machine) -> tuple[str, str]:
    found = status.of(machine)
    return found.state, found.detail


# --- how it ended --------------------------------------------------------------------------------


def test_one_that_was_never_started_and_one_that_was_stopped_are_just_stopped(
    machine: Machine, sshd: FakeSshd
) -> None:
    assert told(machine) == ("stopped", "")
    lifecycle.start(machine, on_stage=lambda _stage: None, deadline_scale=1)
    lifecycle.stop(machine)
    assert told(machine) == ("stopped", "")


def test_a_qemu_that_was_killed_is_told(machine: Machine, running: lifecycle.Ready) -> None:
    end(running.pid)
    state, detail = told(machine)
    assert state == "stopped"
    assert detail == (
        f"QEMU (pid {running.pid}) ended and its guest had not said that it shuts down"
    )


def test_a_pid_that_another_program_has_now_is_not_the_machine(
    machine: Machine, running: lifecycle.Ready
) -> None:
    end(running.pid)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        record(machine, pid=other.pid)
        state, detail = told(machine)
        assert state == "stopped"
        assert "another program has that pid now" in detail
        assert lifecycle.stop(machine).rung == "not-running"
        assert other.poll() is None
        other.communicate(b"\n")


def test_a_host_that_was_started_anew_is_told(machine: Machine, running: lifecycle.Ready) -> None:
    end(running.pid)
    record(machine, boot="00000000-0000-0000-0000-000000000000")
    assert told(machine) == (
        "stopped",
        "the host was started anew while it ran; its guest did not shut down",
    )


def test_a_guest_that_shut_down_by_itself_is_just_stopped_whatever_came_then(
    machine: Machine, running: lifecycle.Ready
) -> None:
    record(machine, boot="00000000-0000-0000-0000-000000000000")
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor, suppress(QmpError):
        monitor.execute("system_powerdown", timeout=CEILING)
    os.waitpid(running.pid, 0)
    assert (machine.directory / runs.NAME).exists()
    assert told(machine) == ("stopped", "")


def test_a_copy_of_a_running_machine_is_told_as_one(
    machine: Machine, running: lifecycle.Ready, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(home / ".local/share", home / "copy")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "copy"))
    state, detail = told(store.load("demo"))
    assert (state, detail) == (
        "stopped",
        f"a copy of the machine in {machine.directory}, which runs",
    )
    assert told(machine)[0] == "running"


def test_a_damaged_record_of_the_last_run_hides_nothing_else(
    machine: Machine, running: lifecycle.Ready
) -> None:
    (machine.directory / runs.NAME).write_text("{")
    assert told(machine)[0] == "running"
    end(running.pid)
    assert told(machine) == ("stopped", "")


def end(pid: int) -> None:
    """Kill a child of ours and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def record(machine: Machine, **changes: object) -> None:
    """Change the record of the machine's last run."""
    place = machine.directory / runs.NAME
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))


# --- what is shown -------------------------------------------------------------------------------


def test_what_it_uses_of_the_host_is_shown(
    rave: Rave, machine: Machine, running: lifecycle.Ready
) -> None:
    found = json.loads(rave("vm", "status", "demo", "--json")[1])
    assert tuple(found) == status.FIELDS
    assert (found["accelerator"], found["origin"], found["mode"]) == ("tcg", "cold", "safe")
    assert found["residentMiB"] > 0
    assert 0 < found["proportionalMiB"] <= found["residentMiB"] + 1
    assert found["cpuSeconds"] >= 0
    assert found["cpuPercent"] is not None
    assert found["uptime"] >= 0
    assert (found["stage"], found["protected"]) == ("services", False)
    assert found["image"]["sha256"] == "0" * 64
    lifecycle.stop(machine)
    found = json.loads(rave("vm", "status", "demo", "--json")[1])
    assert tuple(found) == status.FIELDS
    assert [found[key] for key in ("pid", "uptime", "residentMiB", "cpuSeconds")] == [None] * 4


def test_cpu_seconds_are_those_of_the_process() -> None:
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        found = processes.with_pid(busy.pid)
        assert found is not None
        assert 0.25 <= found.cpu_seconds < 5
        busy.communicate(b"\n")


def test_the_list_shows_all_of_it_for_people(
    rave: Rave, machine: Machine, running: lifecycle.Ready
) -> None:
    cells = rave("vm", "list")[1].rstrip("\n").split("\t")
    assert cells[:7] == ["demo", "running", "services", "demo/debian", "safe", "cold", "tcg"]
    assert cells[7].endswith("/2048")
    assert cells[10].endswith("s")
    assert "22=" in cells[11]


def test_machines_whose_monitors_are_silent_are_waited_for_together(
    machine: Machine,
    running: lifecycle.Ready,
    plan: Plan,
    image: Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [
        store.create(store.new_spec(plan, image, name=f"other-{n}", mode="safe")) for n in range(4)
    ]
    for other in others:
        # Their logins fail, since the fake sshd is another machine's; they run none the less.
        with pytest.raises(RaveError):
            lifecycle.start(
                other, on_stage=lambda _stage: None, deadline_scale=1, keep_running=True
            )
    pids = [running_pid(found) for found in (machine, *others)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    # None is asked before each of them is about to be.
    all_there, ask = threading.Barrier(len(pids)), status._asked

    def asked(*about: Any) -> Any:
        all_there.wait(CEILING)
        return ask(*about)

    monkeypatch.setattr(status, "_asked", asked)
    monkeypatch.setattr(status, "MONITOR_ANSWERS", 0.2)
    found = status.of_all()
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert {entry.state for entry in found} == {"unresponsive"}


def running_pid(machine: Machine) -> int:
    found = processes.find(machine)
    assert found is not None
    return found.pid


# --- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{name} {state}", "demo running"),
        ("{name:<8}|{memoryMiB:>6}|", "demo    |  2048|"),
        ("{ports.3002}", "9"),
        ("{image.sha256:.4}", "0000"),
        ("{{{name}}}", "{demo}"),
        ("{ports.443}|{ports.22.more}", "|"),
        ("{proportionalMiB:05d}|", "|"),
        ("plain", "plain"),
    ],
)
def test_a_template_makes_a_line_of_each_machine(
    rave: Rave, running: lifecycle.Ready, template: str, line: str
) -> None:
    assert rave("vm", "list", "--format", template)[:2] == (0, f"{line}\n")


def test_status_takes_a_template_too(rave: Rave, running: lifecycle.Ready) -> None:
    assert rave("vm", "status", "demo", "--format", "{state}:{cpus}")[1] == "running:2\n"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{nmae}", "names 'nmae', and there is no such field"),
        ("{}", "there is no such field"),
        ("{name.__class__} {__class__}", "names '__class__'"),
        ("{name[0]}", r"names 'name[0]'"),
        ("{name", "expected '}'"),
        ("{name!r}", "conversions and nested fields"),
        ("{name:{cpus}}", "conversions and nested fields"),
        ("{name:d}", "name: Unknown format code 'd'"),
    ],
)
def test_a_template_that_cannot_be_used_is_answered(
    rave: Rave, machine: Machine, template: str, why: str
) -> None:
    code, out, err = rave("vm", "list", "--format", template)
    assert (code, out) == (2, "")
    assert why in err
    if "no such field" in why:
        assert "there are: name, state, detail" in err
    assert rave("vm", "list", "--format", "{name}", "--json")[0] == 2


def test_a_template_sees_no_more_than_the_document(rave: Rave, machine: Machine) -> None:
    assert rave("vm", "list", "--format", "{name.__class__}|{ports.keys}")[1] == "|\n"


def test_a_damaged_machine_is_not_hidden_from_a_template(rave: Rave, machine: Machine) -> None:
    (machine.directory / "machine.json").write_text("{")
    assert rave("vm", "list", "--format", "{name} {state} {cpus}")[1] == "demo damaged \n"
