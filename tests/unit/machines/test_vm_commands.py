"""`rave vm` as a user meets it: what goes to stdout, what to stderr, and the exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import process
from rave_cli.app import main
from rave_cli.errors import ExitCode
from rave_cli.machines import lifecycle, store
from rave_cli.machines.lifecycle import stop
from rave_cli.machines.qemu import processes
from rave_cli.options import complete_machine
from tests.unit.machines.conftest import HEALTHY, Host, running_fakes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from tests.unit.machines.fake_sshd import FakeSshd


@pytest.fixture
def rave(
    host: Host, image: Image, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs rave and returns exit code, stdout and stderr."""
    monkeypatch.setattr("rave_cli.images.build.existing_image", lambda _plan: image)
    monkeypatch.setenv("RAVE_BASE", "debian")

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["rave", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def test_create_and_start_is_launch_local(
    rave: Callable[..., tuple[int, str, str]], host: Host
) -> None:
    code, out, _ = rave("vm", "create", "--profile", "demo", "--json")
    document = json.loads(out)
    assert (code, document["name"], document["state"]) == (0, "demo", "stopped")
    assert document["memoryMiB"] == 2048


def test_start_tells_stages_on_stderr_and_the_result_on_stdout(
    rave: Callable[..., tuple[int, str, str]], sshd: FakeSshd
) -> None:
    code, out, err = rave("vm", "start", "demo", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["ports"] == {"22": sshd.port, "3002": 9}
    assert [s["name"] for s in document["stages"]][:2] == ["qemu", "kernel"]
    assert document["accelerator"]["kind"] == "tcg"
    assert "ssh-auth" in err
    assert "no cap around QEMU" in err
    assert "rave secrets install demo" in err


def test_a_running_machine_is_shown_listed_and_stopped(
    rave: Callable[..., tuple[int, str, str]], sshd: FakeSshd
) -> None:
    rave("vm", "start", "demo")
    assert json.loads(rave("vm", "status", "demo", "--json")[1])["state"] == "running"
    assert json.loads(rave("vm", "list", "--json")[1])[0]["ports"]["22"] == sshd.port
    code, out, err = rave("vm", "delete", "demo")
    assert (code, out) == (2, "")
    assert "machine demo is running" in err
    code, out, _ = rave("vm", "stop", "demo", "--json")
    assert (code, json.loads(out)["rung"]) == (0, "acpi")
    assert rave("vm", "stop", "demo")[1] == "demo was not running\n"
    assert rave("vm", "delete", "demo")[:2] == (0, "demo deleted\n")
    assert json.loads(rave("vm", "list", "--json")[1]) == []


def test_exec_passes_output_and_exit_status_on(
    rave: Callable[..., tuple[int, str, str]], sshd: FakeSshd
) -> None:
    sshd.handler = lambda command, _data: (42, command.encode() + b"\n", b"warned\n")
    rave("vm", "start", "demo")
    assert rave("vm", "exec", "demo", "--", "ls", "-l") == (42, "ls -l\n", "warned\n")
    code, out, _ = rave("vm", "exec", "--sudo", "--json", "demo", "--", "id", "-u")
    assert code == 42
    assert json.loads(out) == {
        "exitStatus": 42,
        "stdout": "sudo -n -- id -u\n",
        "stderr": "warned\n",
        "truncated": False,
    }


def test_ssh_becomes_openssh(
    rave: Callable[..., tuple[int, str, str]], sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[Any] = []
    monkeypatch.setattr(process, "become", lambda argv, env: became.extend([argv, env]))
    rave("vm", "start", "demo")
    assert rave("vm", "ssh", "demo", "--", "-L", "9:localhost:9")[0] == 0
    assert became[0][0] == "ssh"
    assert str(sshd.port) in became[0]
    assert became[0][-3:] == ("rave@127.0.0.1", "-L", "9:localhost:9")
    assert became[1] == {}
    report = {"v": 1, "instance": "i", "uptime": 9.0, "stage": "ban", "failures": 3}
    machine = store.load("demo")
    with machine.stage_file.open("a") as stages:
        stages.write(json.dumps(report | {"until": time.time() + 40, "seconds": 60}) + "\n")
    code, _, err = rave("vm", "ssh", "demo")
    assert code == ExitCode.NOT_READY
    assert "bans this host" in err
    machine.way_socket.touch()
    rave("vm", "ssh", "demo")
    assert any(word.startswith("ProxyCommand=") for word in became[2])
    assert became[3] == {"INSTANCE": machine.spec.instance_id}


def test_logs_show_each_source_without_control_characters(
    rave: Callable[..., tuple[int, str, str]], sshd: FakeSshd, host: Host
) -> None:
    host.behave(steps=[{"console": "a\r\n\x1b[2Jb\r\nlast"}, *HEALTHY[1:]], stderr="odd\n")
    rave("vm", "start", "demo")
    rave("vm", "stop", "demo")
    assert rave("vm", "logs", "demo")[1] == "a\nb\nlast\n"
    assert rave("vm", "logs", "demo", "-n", "1", "--follow")[1] == "last\n"
    assert rave("vm", "logs", "demo", "--source", "qemu")[1] == "odd\n"
    document = json.loads(rave("vm", "logs", "demo", "--json")[1])
    assert document == {"name": "demo", "source": "console", "lines": ["a", "b", "last"]}
    assert rave("vm", "logs", "demo", "--json", "--follow")[0] == 2
    assert '"stage": "services"' in rave("vm", "logs", "demo", "--source", "stages")[1]


def test_a_followed_log_ends_with_the_machine(
    rave: Callable[..., tuple[int, str, str]], sshd: FakeSshd, host: Host, machine: Machine
) -> None:
    rave("vm", "start", "demo")
    with machine.console_log.open("a") as console:
        stopper = threading.Timer(0.3, print, ["bye"], {"file": console, "flush": True})
        ender = threading.Timer(0.8, lambda: stop(machine, patience=0))
        for timer in (stopper, ender):
            timer.start()
        code, out, _ = rave("vm", "logs", "demo", "--follow")
        for timer in (stopper, ender):
            timer.join()
    assert code == 0
    assert out.endswith("bye\n")


def test_profiles_are_listed_with_what_each_base_carries(
    rave: Callable[..., tuple[int, str, str]],
) -> None:
    entries = json.loads(rave("vm", "list-profiles", "--json")[1])
    demo = next(e for e in entries if (e["profile"], e["base"]) == ("demo", "debian"))
    assert demo["resources"]["safe"]["memoryMiB"] == 2048
    assert "postgresql" in demo["services"]
    assert "grafana" in demo["absent"]
    assert "demo\tdebian\t" in rave("vm", "list-profiles")[1]


def test_the_journal_comes_over_ssh(
    rave: Callable[..., tuple[int, str, str]], sshd: FakeSshd
) -> None:
    rave("vm", "start", "demo")
    out = rave("vm", "logs", "demo", "--source", "journal", "-n", "7")[1]
    assert out == "sudo -n -- journalctl --no-pager --lines=7\n"


def test_a_dry_run_prints_the_command_and_makes_nothing(
    rave: Callable[..., tuple[int, str, str]], host: Host
) -> None:
    code, out, _ = rave(
        "vm", "launch-local", "--profile", "demo", "--name", "web", "--port", "8443:3002",
        "--memory", "3000", "--dry-run", "--json",
    )  # fmt: skip
    argv = json.loads(out)["argv"]
    assert code == 0
    assert argv[0] == "qemu-system-x86_64"
    assert argv[argv.index("-m") + 1] == "3000"
    assert any("127.0.0.1:8443-:3002" in word for word in argv)
    assert store.list_machines() == []
    assert running_fakes(host.bin) == []


def test_a_dry_run_of_start_is_what_start_runs(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    argv = json.loads(rave("vm", "start", "demo", "--dry-run", "--json")[1])["argv"]
    rave("vm", "start", "demo")
    (pid,) = running_fakes(host.bin)
    raw = (processes.PROC / str(pid) / "cmdline").read_bytes()
    really = [word.decode() for word in raw.rstrip(b"\0").split(b"\0")]
    assert really[really.index(str(host.bin / argv[0])) + 1 :] == argv[1:]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["launch-local", "--profile", "dmo"], 2, "did you mean demo?"),
        (["launch-local", "--base", "debain"], 2, "did you mean debian?"),
        (["launch-local", "--name", "../x"], 2, "cannot be a machine's name"),
        (["launch-local", "--port", "22"], 2, "is not HOST:GUEST"),
        (["launch-local", "--port", "1:5432"], 2, "firewall closes port 5432"),
        (["launch-local", "--memory", "1"], 2, "--memory 1 is too little"),
        (["launch-local", "--disk", "0"], 2, "--disk 0 is too little"),
        (["launch-local", "--network", "wifi"], 2, "'wifi' is not one of"),
        (["start", "nobody"], 2, "there is no machine 'nobody'"),
        (["exec", "../x", "--", "true"], 2, "cannot be a machine's name"),
    ],
)
def test_bad_input_is_answered_with_message_hint_and_code(
    rave: Callable[..., tuple[int, str, str]], words: list[str], code: int, message: str
) -> None:
    found, out, err = rave("vm", *words)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    assert store.list_machines() == []


def test_a_taken_name_is_refused_before_anything_is_built(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_args: object, **_options: object) -> None:
        pytest.fail("built an image for a machine that cannot be")

    monkeypatch.setattr("rave_cli.images.build.existing_image", build)
    code, _, err = rave("vm", "launch-local", "--profile", "demo")
    assert code == 2
    assert "machine demo exists already" in err


def test_a_taken_port_leaves_no_machine(rave: Callable[..., tuple[int, str, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, _, err = rave("vm", "launch-local", "--profile", "demo", "--port", f"{port}:3002")
    assert code == 3
    assert f"port 127.0.0.1:{port} of the host is taken" in err
    assert store.list_machines() == []


def test_a_dry_run_without_an_image_says_how_to_get_one(
    rave: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rave_cli.images.build.existing_image", lambda _plan: None)
    code, _, err = rave("vm", "launch-local", "--profile", "demo", "--dry-run")
    assert code == 3
    assert "rave vm build-image --profile demo --base debian" in err


def test_what_does_not_run_cannot_be_reached(
    rave: Callable[..., tuple[int, str, str]], machine: Machine
) -> None:
    for words in (["ssh", "demo"], ["exec", "demo", "true"]):
        code, _, err = rave("vm", *words)
        assert code == 5
        assert "hint: rave vm start demo" in err


def test_a_failed_launch_ends_with_5_and_leaves_a_machine_to_look_into(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    host.behave(steps=[{"console": "Kernel panic - not syncing: oh\r\n"}])
    code, out, err = rave("vm", "start", "demo", "--json")
    assert code == 5
    assert json.loads(out)["exitCode"] == 5
    assert "stopped at stage systemd" in err
    assert "| console: Kernel panic" in err
    assert running_fakes(host.bin) == []
    assert rave("vm", "logs", "demo")[1].startswith("Kernel panic")


def test_a_damaged_machine_is_listed_and_can_be_deleted(
    rave: Callable[..., tuple[int, str, str]], machine: Machine
) -> None:
    (machine.directory / "machine.json").write_text("{")
    (entry,) = json.loads(rave("vm", "list", "--json")[1])
    assert entry["state"] == "damaged"
    assert rave("vm", "status", "demo")[0] == 3
    assert rave("vm", "delete", "demo", "--force")[0] == 0


def test_completion_is_quick_and_never_fails(
    machine: Machine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complete_machine(None, None, "de") == ["demo"]  # type: ignore[arg-type]
    monkeypatch.setattr(
        "rave_cli.machines.names.stored_names", lambda: (_ for _ in ()).throw(RuntimeError)
    )
    assert complete_machine(None, None, "de") == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("vm stop de", ["demo"]),
        ("down ", ["demo"]),
        ("secrets install d", ["demo"]),
        ("smoke run --vm d", ["demo"]),
        ("up --profile d", ["demo", "development"]),
        ("vm create --profile p", ["production"]),
        ("smoke list --base ", ["debian", "nixos"]),
        ("secrets rotate redis/", ["redis/password"]),
        ("smoke run --phase se", ["secrets", "security"]),
        ("vm st", ["start", "stop", "status"]),
    ],
)
def test_completion_knows_the_names_and_imports_nothing_heavy(
    machine: Machine, words: str, completed: list[str]
) -> None:
    """Time is measured in benchmarks/; what makes it is the imports, and those are exact."""
    (machine.directory.parent / "de\x1b[2J").mkdir()
    script = (
        "import sys; from rave_cli.app import main; sys.argv[0] = 'rave'\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    environment = os.environ | {
        "_RAVE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"rave {words}",
        "COMP_CWORD": str(len(words.split(" "))),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.splitlines()) == sorted(f"plain,{name}" for name in completed)
    heavy = {"pydantic", "paramiko", "rich", "cryptography", "yaml", "httpx"}
    assert heavy & set(done.stderr.split()) == set()


def test_a_killed_cli_leaves_a_truth_that_the_next_command_finds(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    """SIGKILL while the machine boots: QEMU runs on; it is seen, stopped and startable."""
    goes_on = host.bin / "goes-on"
    host.behave(steps=[*HEALTHY[:2], {"until": str(goes_on)}, *HEALTHY[2:]])
    pid = os.fork()
    if pid == 0:
        try:
            lifecycle.start(machine, on_stage=lambda _s: None)
        finally:
            os._exit(1)
    while not (machine.stage_file.exists() and machine.stage_file.stat().st_size):
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert json.loads(rave("vm", "status", "demo", "--json")[1])["state"] == "starting"
    goes_on.touch()
    assert rave("vm", "start", "demo")[0] == 0
    assert rave("vm", "stop", "demo")[0] == 0
    assert rave("vm", "delete", "demo")[0] == 0
