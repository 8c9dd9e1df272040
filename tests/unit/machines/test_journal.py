"""`rave vm logs` of a guest's journal: units, times, and following until the machine stops."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode
from rave_cli.machines import lifecycle
from rave_cli.machines.logs import JournalQuery
from tests.terminal import RAVE, Terminal
from tests.unit.machines.test_exec import guest
from tests.unit.machines.test_terminal import each_end, outside
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.fake_sshd import ExecutingSshd
    from tests.unit.machines.test_terminal import End

__all__ = ["guest", "outside"]


@pytest.fixture
def journalctl(guest: ExecutingSshd, tmp_path: Path) -> Callable[[str], None]:
    """Let the guest's journalctl do something."""

    def write(script: str) -> None:
        program = tmp_path / "guest" / "journalctl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return write


def logs(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [*RAVE, "vm", "logs", "demo", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=CEILING)


def test_no_word_of_a_user_is_an_option_of_journalctl() -> None:
    query = JournalQuery(("--rotate", "a b"), "--vacuum-size=1", 5)
    assert query.argv[2:] == (
        "--unit=--rotate",
        "--unit=a b",
        "--since=--vacuum-size=1",
        "--lines=5",
    )


def test_units_and_a_time_ask_the_journal(journalctl: Callable[[str], None]) -> None:
    journalctl('echo "$@"')
    asked = logs("-u", "nginx", "--unit", "redis", "--since", "-10min").stdout
    assert asked == "--no-pager --unit=nginx --unit=redis --since=-10min\n"
    assert logs("-u", "nginx").stdout == "--no-pager --unit=nginx --lines=1000\n"
    assert logs("-u", "nginx", "--source", "console").returncode == ExitCode.USAGE
    assert logs("-u", "nginx", "--json", "--follow").returncode == ExitCode.USAGE


@pytest.mark.parametrize("follow", [[], ["--follow"]], ids=["once", "followed"])
def test_a_time_that_is_none_is_told(journalctl: Callable[[str], None], follow: list[str]) -> None:
    journalctl("echo 'Failed to parse timestamp: soon' >&2; exit 1")
    # A machine that runs on is waited for, in case the end of the command was its end.
    done = logs("--since", "soon", *follow)
    assert done.returncode == ExitCode.USAGE
    assert "Failed to parse timestamp: soon" in done.stderr


def test_what_is_followed_comes_as_it_is_said_cleaned_and_ends_with_the_machine(
    machine: Machine, guest: ExecutingSshd, journalctl: Callable[[str], None]
) -> None:
    journalctl(r"printf 'one\033[2J\033]0;x\007\n'; sleep 999")
    argv = [*RAVE, "vm", "logs", "demo", "--unit", "nginx", "--follow"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as rave:
        assert rave.stdout is not None
        assert rave.stderr is not None
        assert rave.stdout.readline() == b"one\n"
        lifecycle.kill(machine)
        guest.drop()
        assert rave.wait(CEILING) == 0
        assert b"machine demo is stopped" in rave.stderr.read()


def test_a_connection_that_breaks_while_the_machine_runs_is_a_fault(
    guest: ExecutingSshd, journalctl: Callable[[str], None]
) -> None:
    journalctl("echo one; sleep 999")
    argv = [*RAVE, "vm", "logs", "demo", "--unit", "nginx", "--follow"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as rave:
        assert rave.stdout is not None
        assert rave.stderr is not None
        assert rave.stdout.readline() == b"one\n"
        guest.drop()
        assert rave.wait(CEILING) == ExitCode.NOT_READY
        assert b"the connection broke" in rave.stderr.read()


@each_end
def test_following_ends_when_it_is_ended(
    guest: ExecutingSshd, journalctl: Callable[[str], None], ending: End
) -> None:
    journalctl("echo one; sleep 999")
    with Terminal([*RAVE, "vm", "logs", "demo", "--unit", "nginx", "--follow"]) as terminal:
        terminal.until("one")
        ending[0](terminal)
        assert terminal.end() == ending[1]


def test_a_followed_console_says_that_the_machine_is_stopped(
    machine: Machine, guest: ExecutingSshd
) -> None:
    with Terminal([*RAVE, "vm", "logs", "demo", "--follow"]) as terminal:
        terminal.until("Linux version")
        lifecycle.kill(machine)
        assert terminal.end() == 0
        assert "machine demo is stopped" in terminal.shown
