"""`rave vm exec`: output as it comes, bounded memory, and nothing that goes on in the guest."""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest.ssh import connect
from tests.terminal import RAVE, Terminal
from tests.unit.machines.fake_sshd import ExecutingSshd
from tests.unit.machines.test_terminal import each_end, outside, start
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.test_terminal import End

__all__ = ["outside"]


@pytest.fixture
def guest(machine: Machine, host: Host, outside: Path, tmp_path: Path) -> Iterator[ExecutingSshd]:
    """A running machine whose sshd really runs what it is asked to run."""
    folder = tmp_path / "guest"
    folder.mkdir()
    public = machine.login_key.with_suffix(".pub").read_text().split()[1]
    with ExecutingSshd(machine.host_key.read_bytes(), public, folder=folder) as server:
        host.behave(ports={22: server.port, 3002: 9})
        start(machine)
        yield server


# Names the processes of this run of the tests: others may be going on beside it.
MARK = f"65{os.getpid()}."
# Seconds that a command gets which does not end: enough to begin in on a busy host.
SOON = "4"


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in the machine."""
    argv = [*RAVE, "vm", "exec", "demo", *words]
    return subprocess.run(argv, capture_output=True, check=False, timeout=CEILING, **options)


def alive(mark: str) -> bool:
    """Return whether a process with a mark in its command line is there, once ends have settled."""

    def gone() -> bool:
        found = subprocess.run(["/usr/bin/pgrep", "-f", mark], capture_output=True, check=False)
        return not found.stdout

    until(gone, pause=0.1)
    return False


def test_output_comes_while_the_command_runs(guest: ExecutingSshd) -> None:
    script = "echo first; echo oops >&2; read line; echo then $line"
    argv = [*RAVE, "vm", "exec", "-i", "demo", "--", "sh", "-c", script]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as rave:
        assert rave.stdin is not None
        assert rave.stdout is not None
        assert rave.stderr is not None
        assert rave.stdout.readline() == b"first\n"
        assert rave.stderr.readline() == b"oops\n"
        rave.stdin.write(b"second\n")
        rave.stdin.flush()
        assert rave.stdout.readline() == b"then second\n"
        assert rave.wait(CEILING) == 0


def test_no_signal_finds_us_inside_of_paramiko(guest: ExecutingSshd, machine: Machine) -> None:
    """It takes locks before its `try`: an exception in between, and the clean-up waits for ever."""
    found: set[str] = set()

    def watch(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and frame.f_globals.get("__name__", "").startswith("paramiko"):
            found.update(() if signals.holding() else (frame.f_code.co_qualname,))

    with subprocess.Popen(["/bin/echo", "given"], stdout=subprocess.PIPE) as given:
        assert given.stdout is not None
        # What tests before this one left is not thrown away in the middle of it.
        gc.collect()
        gc.disable()
        sys.setprofile(watch)
        try:
            with connect(machine) as session:
                session.run(("cat",), stdin=b"x" * 100_000, timeout=CEILING)
                session.stream(
                    ("sh", "-c", "cat; echo oops >&2; exit 3"),
                    stdin=given.stdout.fileno(), on_output=lambda *_: None, timeout=CEILING,
                )  # fmt: skip
        finally:
            sys.setprofile(None)
            gc.enable()
    assert found == set()


def test_bytes_and_the_exit_status_pass_unchanged(guest: ExecutingSshd) -> None:
    done = run("-i", "--", "sh", "-c", "cat; exit 42", input=bytes(range(256)) * 4000)
    assert (done.returncode, done.stdout, done.stderr) == (42, bytes(range(256)) * 4000, b"")


def test_a_command_that_wants_no_more_input_ends(guest: ExecutingSshd) -> None:
    """Standard input goes on for ever; the command does not."""
    with open("/dev/zero", "rb") as endless:  # noqa: PTH123 - a device
        done = run("-i", "--", "head", "-c", "5", stdin=endless)
    assert (done.returncode, done.stdout) == (0, bytes(5))


def test_without_stdin_the_command_gets_none(guest: ExecutingSshd) -> None:
    assert run("--", "cat").returncode == 0


@pytest.mark.parametrize("sudo", [[], ["--sudo"]], ids=["user", "root"])
def test_after_its_time_a_command_is_ended_in_the_guest(
    guest: ExecutingSshd, sudo: list[str]
) -> None:
    script = f"echo begun; sleep {MARK}1 & sleep {MARK}2; echo never"
    done = run(*sudo, "--timeout", SOON, "--", "sh", "-c", script)
    assert done.returncode == ExitCode.NOT_READY
    assert done.stdout == b"begun\n"
    assert f"did not finish within {SOON} s".encode() in done.stderr
    assert not alive(f"sleep {MARK}[12]")


def test_a_command_that_never_pauses_is_ended_all_the_same(guest: ExecutingSshd) -> None:
    done = run("--timeout", SOON, "--", "yes", f"{MARK}9")
    assert done.returncode == ExitCode.NOT_READY
    assert done.stdout.startswith(f"{MARK}9\n".encode())
    assert not alive(f"yes {MARK}9")


def test_a_command_that_ignores_sigterm_is_ended_all_the_same(guest: ExecutingSshd) -> None:
    script = f"trap '' TERM HUP; echo begun; sleep {MARK}3; sleep {MARK}4"
    done = run("--timeout", SOON, "--", "setsid", "sh", "-c", script)
    assert done.returncode == ExitCode.NOT_READY
    assert not alive(f"sleep {MARK}[34]")


@each_end
def test_an_interrupted_command_is_ended_in_the_guest(guest: ExecutingSshd, ending: End) -> None:
    argv = [*RAVE, "vm", "exec", "--sudo", "demo", "--", "sh", "-c", f"echo begun; sleep {MARK}5"]
    with Terminal(argv) as terminal:
        terminal.until("begun")
        ending[0](terminal)
        assert terminal.end() == ending[1]
    assert not alive(f"sleep {MARK}5")


def test_a_reader_that_leaves_ends_the_command(guest: ExecutingSshd) -> None:
    script = f"{' '.join(RAVE)} vm exec demo -- yes {MARK}6 | /usr/bin/head -n 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False, timeout=CEILING)
    assert (done.stdout, done.stderr) == (f"{MARK}6\n".encode(), b"")
    assert not alive(f"yes {MARK}6")


def test_other_commands_go_on_when_one_is_ended(guest: ExecutingSshd) -> None:
    argv = [*RAVE, "vm", "exec", "demo", "--", "sh", "-c", "echo begun; sleep 3; echo done"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"begun\n"
        assert run("--timeout", "1", "--", "sleep", f"{MARK}7").returncode == ExitCode.NOT_READY
        assert other.stdout.read() == b"done\n"
        assert other.wait(CEILING) == 0


def test_a_guest_that_cannot_end_it_is_named(
    machine: Machine, guest: ExecutingSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rave_cli.machines.guest.session.END_SECONDS", 0.5)

    def get_stuck(_number: int, _data: bytes) -> None:
        guest.stuck = True

    with (
        connect(machine, port=guest.port) as session,
        pytest.raises(RaveError, match="may still run in machine demo") as caught,
    ):
        session.stream(
            ("sh", "-c", "echo begun; sleep 20"), stdin=None, on_output=get_stuck, timeout=4
        )
    assert caught.value.hint == "rave vm ssh demo"


def test_a_connection_that_breaks_is_told_after_what_came(
    machine: Machine, guest: ExecutingSshd
) -> None:
    pieces = []

    def drop(_number: int, data: bytes) -> None:
        pieces.append(data)
        guest.drop()

    with (
        connect(machine, port=guest.port) as session,
        pytest.raises(RaveError, match="the connection broke"),
    ):
        session.stream(("sh", "-c", "echo x; sleep 9"), stdin=None, on_output=drop, timeout=CEILING)
    assert pieces == [b"x\n"]


def test_json_keeps_what_came_before_the_time_was_over(guest: ExecutingSshd) -> None:
    done = run(
        "--json", "--timeout", SOON, "--", "sh", "-c", f"echo out; echo err >&2; sleep {MARK}8"
    )
    document = json.loads(done.stdout)
    assert document["exitCode"] == done.returncode == ExitCode.NOT_READY
    assert "did not finish" in document["error"]
    assert (document["exitStatus"], document["stdout"], document["stderr"]) == (
        None, "out\n", "err\n",
    )  # fmt: skip


def test_json_keeps_the_beginning_of_too_much(guest: ExecutingSshd) -> None:
    script = "head -c 20000000 /dev/zero | tr '\\0' x; echo end >&2"
    done = run("--json", "--", "sh", "-c", script)
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["truncated"] is True
    assert document["stdout"] == "x" * (8 << 20)
    assert document["stderr"] == "end\n"
    assert b"the rest is left out" in done.stderr


def test_much_output_takes_little_memory(guest: ExecutingSshd) -> None:
    """300 MB pass through a process that may have 400 MiB, whoever reads them slowly."""
    size = 300_000_000

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))

    argv = [*RAVE, "vm", "exec", "demo", "--", "head", "-c", str(size), "/dev/zero"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, preexec_fn=limit) as rave:  # noqa: PLW1509
        assert rave.stdout is not None
        time.sleep(1)
        passed = 0
        while data := rave.stdout.read(1 << 20):
            passed += len(data)
        assert rave.wait(CEILING) == 0
    assert passed == size


def test_a_command_that_a_signal_ends_has_no_status(guest: ExecutingSshd) -> None:
    done = run("--", "sh", "-c", "kill -9 $PPID")
    assert done.returncode == 255
    assert b"a signal ended the command" in done.stderr
