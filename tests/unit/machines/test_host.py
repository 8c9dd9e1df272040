"""What the host must give before a start, the cap around QEMU, and the scan for our processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import preflight
from rave_cli.machines.qemu import caps, processes
from rave_cli.machines.spec import Forward, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestMemory:
    """The memory preflight."""

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.meminfo, self.cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
        self.cgroup.mkdir()
        monkeypatch.setattr(preflight, "MEMINFO", self.meminfo)
        monkeypatch.setattr(preflight, "CGROUP", self.cgroup)

    def test_the_smaller_of_host_and_container_counts(self) -> None:
        assert preflight.available_mib() is None
        self.meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    4194304 kB\n")
        assert preflight.available_mib() == 4096
        (self.cgroup / "memory.max").write_text("max\n")
        (self.cgroup / "memory.current").write_text("1\n")
        assert preflight.available_mib() == 4096
        (self.cgroup / "memory.max").write_text(f"{3 << 30}\n")
        (self.cgroup / "memory.current").write_text(f"{1 << 30}\n")
        assert preflight.available_mib() == 2048

    def test_too_little_is_refused_with_both_figures(self, machine: Machine) -> None:
        preflight.check_memory(machine, "tcg", None)
        preflight.check_memory(machine, "tcg", 1 << 20)
        with pytest.raises(RaveError, match="has 1000 MiB available") as caught:
            preflight.check_memory(machine, "tcg", 1000)
        assert caught.value.exit_code == ExitCode.HOST
        assert "--memory" in str(caught.value.hint)

    def test_what_boots_is_promised_the_rest_of_its_memory(self) -> None:
        argv = ("qemu-system-x86_64", "-accel", "tcg", "-m", "1024")
        booting = processes.Process(7, argv, ticks=1, started=1000.0, resident_mib=300)
        promised = preflight.promised_mib(booting, 1010.0)
        assert promised == 1024 + caps.OVERHEAD["tcg"] // 2 - 300
        assert promised == preflight.needed_mib(1024, "tcg") - 300
        assert preflight.promised_mib(replace(booting, resident_mib=9000), 1010.0) == 0
        assert preflight.promised_mib(booting, 1001.0 + preflight.BOOTS) == 0
        warm = (*argv, "-object", "memory-backend-file,id=a,size=1024M,mem-path=b,share=off")
        assert preflight.promised_mib(replace(booting, argv=warm), 1010.0) == 0


def test_a_port_in_use_is_refused_before_a_machine_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RaveError, match=f"127.0.0.1:{port} of the host is taken") as caught:
            preflight.check_ports((Forward(0, 22), Forward(port, 3002)))
    assert caught.value.exit_code == ExitCode.HOST
    preflight.check_ports((Forward(0, 22), Forward(port, 3002)))


def test_the_cap_is_above_what_the_guest_may_use(machine: Machine) -> None:
    argv = caps.scope_argv(machine.spec, "tcg", user=True)
    assert argv[:3] == ("systemd-run", "--user", "--scope")
    assert argv[-1] == "--"
    limits = dict(argv[i + 1].split("=") for i, word in enumerate(argv) if word == "-p")
    assert int(limits["MemoryMax"].rstrip("M")) == machine.spec.memory_mib + caps.OVERHEAD["tcg"]
    assert limits["MemorySwapMax"] == "0"
    assert limits["CPUQuota"] == "300%"
    assert limits["TasksMax"] == "256"
    assert "--user" not in caps.scope_argv(machine.spec, "tcg", user=False)


@pytest.mark.parametrize(
    ("status", "note"), [(0, ""), (1, "no cap around QEMU (systemd-run refused: no rights)")]
)
def test_a_cap_is_given_if_the_manager_really_gives_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, status: int, note: str
) -> None:
    asked: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...], *, timeout: float) -> process.Completed:
        asked.append(tuple(argv))
        return process.Completed(tuple(argv), status, b"", b"no rights\n")

    monkeypatch.setattr(caps, "no_manager", lambda: None)
    monkeypatch.setattr(process, "run", run)
    cap = caps.choose(machine.spec, "tcg")
    assert asked[0][-1] == "true"
    assert cap.note.startswith(note)
    assert bool(cap.prefix) == (status == 0)


@pytest.mark.parametrize("lingers", [True, False])
def test_a_user_is_told_that_logging_out_ends_the_machine(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lingers: bool
) -> None:
    done = process.Completed((), 0, b"", b"")
    monkeypatch.setattr(caps, "no_manager", lambda: None)
    monkeypatch.setattr(process, "run", lambda *_args, **_options: done)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(caps, "LINGER", tmp_path)
    monkeypatch.setenv("LOGNAME", "somebody")
    if lingers:
        (tmp_path / "somebody").touch()
    cap = caps.choose(machine.spec, "tcg")
    assert cap.prefix[:2] == ("systemd-run", "--user")
    assert ("enable-linger" in cap.note) != lingers


@pytest.mark.parametrize("absolute", [True, False])
def test_a_manager_is_looked_for_where_the_session_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    (tmp_path / "run/systemd").mkdir(parents=True)
    (tmp_path / "run/systemd/private").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "find", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run") if absolute else "run")
    assert (caps.no_manager() is None) == absolute


def test_without_a_manager_the_note_says_so(machine: Machine) -> None:
    cap = caps.choose(machine.spec, "tcg")
    assert cap.prefix == ()
    assert "systemd-run is not on PATH" in cap.note
    assert "2048 MiB" in cap.note


UUID = str(uuid4())


def named(uuid: str) -> Machine:
    """Return a machine of which only the uuid and the directory matter."""
    spec: Any = SimpleNamespace(uuid=uuid)
    return Machine(spec, Path("/x"), Path("/run/its/own"))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose argv looks like a machine's."""
    code = "import time; print(flush=True); time.sleep(60)"
    argv = [
        sys.executable, "-ISEc", code, "-uuid", UUID, "-accel", "kvm",
        "-blockdev", "driver=file,node-name=file0,filename=/x/disk.qcow2,discard=unmap",
        "-chardev", "socket,id=qmp,path=/run/its/own/qmp.sock,server=on",
    ]  # fmt: skip
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_a_machine_s_process_is_found_by_its_argv(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.find(named(UUID))
    assert found is not None
    assert found.pid == sleeper.pid
    assert 0 <= time.monotonic() - found.started < 30
    assert found.resident_mib > 0
    assert found.accelerator == "kvm"
    assert found.runtime == Path("/run/its/own")
    same = processes.find_by_directory(Path("/x"))
    assert same is not None
    assert same.pid == sleeper.pid


def test_a_uuid_elsewhere_in_the_argv_is_no_machine(sleeper: subprocess.Popen[bytes]) -> None:
    assert processes.find(named(UUID[:-1])) is None
    assert processes.find(named("-uuid")) is None
    assert processes.find_by_directory(Path("/")) is None


def test_a_zombie_does_not_run(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.find(named(UUID))
    assert found is not None
    with processes.held(found) as pidfd:
        assert pidfd is not None
        assert not processes.ended(pidfd, 0)
        os.kill(sleeper.pid, 9)
        assert processes.ended(pidfd, 5)
    assert processes.find(named(UUID)) is None


def test_a_reused_pid_is_not_taken_for_the_machine(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.find(named(UUID))
    assert found is not None
    other = processes.Process(found.pid, found.argv, found.ticks - 1, found.started, 1)
    with processes.held(other) as pidfd:
        assert pidfd is None
    with processes.held(processes.Process(2**22 - 1, (), 0, 0.0, 0)) as pidfd:
        assert pidfd is None
