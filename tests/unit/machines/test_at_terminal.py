"""`rave vm exec -t` and `rave vm console`: a program at our terminal, and that as it was before."""

from __future__ import annotations

import os
import pty
import re
import termios
import tty
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import console, lifecycle
from rave_cli.machines.guest import connection
from rave_cli.terminal import PRESSES, WAY_OUT, WITHIN, LeftError, WayOut
from rave_cli.terminal import Terminal as Lent
from tests.terminal import RAVE, Terminal
from tests.unit.machines.starting import launch_unwatched
from tests.unit.machines.test_command import channel, guest, hostile
from tests.unit.machines.test_exec import alive
from tests.unit.machines.test_exec import guest as over_ssh
from tests.unit.machines.test_exec import run as rave_exec
from tests.unit.machines.test_terminal import outside
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.spec import Machine
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import ExecutingSshd

__all__ = ["channel", "guest", "outside", "over_ssh"]

MARK = f"67.{os.getpid()}"
OUT = "\x1d\x1d\x1d"


@given(st.binary(), st.binary())
def test_only_three_presses_in_a_row_are_the_way_out(before: bytes, after: bytes) -> None:
    key = bytes([WAY_OUT])
    typed = before.replace(key, b"") + key * PRESSES + after
    assert WayOut().pressed(typed, 0.0)
    fewer = key * (PRESSES - 1) + b"x"
    assert not WayOut().pressed((before + after).replace(key, b"") + fewer, 0.0)
    apart = WayOut()
    assert not any(apart.pressed(key, number * WITHIN) for number in range(9))
    others = WayOut()
    assert not any(others.pressed(key + b"x", 0.0) for _ in range(9))


# --- over the command channel --------------------------------------------------------------------


@dataclass
class Ends:
    """A terminal that is lent, and what its person has of it."""

    lent: Lent
    master: int
    tell: int

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.master, (rows, columns))
        os.write(self.tell, b"\0")


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    monkeypatch.setenv("TERM", "xterm-256color")
    master, slave = pty.openpty()
    tty.setraw(slave)
    termios.tcsetwinsize(slave, (33, 101))
    told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    yield Ends(Lent(slave, told), master, tell)
    for fd in (master, slave, told, tell):
        os.close(fd)


class Heard:
    """What a program printed, with what is done once it has said a word."""

    def __init__(self, **answers: object) -> None:
        self.text = ""
        self.answers = dict(answers)

    def take(self, stream: int, data: bytes) -> None:
        assert stream == 1, "a terminal has one output"
        self.text += data.decode()
        for word in [word for word in self.answers if word in self.text]:
            self.answers.pop(word)()  # type: ignore[operator]


def at(channel: CommandChannel, ours: Ends, heard: Heard, script: str) -> int:
    argv = ("sh", "-c", script)
    return channel.stream(
        argv, stdin=None, on_output=heard.take, timeout=CEILING, terminal=ours.lent
    )


def test_a_program_gets_a_terminal_of_our_size_and_kind(
    channel: CommandChannel, ours: Ends
) -> None:
    heard = Heard()
    assert at(channel, ours, heard, "test -t 0 -a -t 2 && stty size && echo $TERM >&2; exit 4") == 4
    assert heard.text == "33 101\r\nxterm-256color\r\n"


def test_it_can_open_its_terminal_by_name(channel: CommandChannel, ours: Ends) -> None:
    heard = Heard()
    assert at(channel, ours, heard, 'echo one >/dev/tty; echo two >"$(tty)"') == 0
    assert heard.text == "one\r\ntwo\r\n"


def test_it_is_told_of_another_size(channel: CommandChannel, ours: Ends) -> None:
    heard = Heard(ready=lambda: ours.resize(50, 160))
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    assert at(channel, ours, heard, script) == 0
    assert heard.text.endswith("50 160\r\n")


def test_ctrl_c_is_its_own_and_a_line_is_edited_there(channel: CommandChannel, ours: Ends) -> None:
    heard = Heard(ready=lambda: ours.type("helli\x7fo\r"), hello=lambda: ours.type("\x03"))
    script = (
        "trap 'echo caught; exit 3' INT; echo ready; read line; echo got $line;"
        " while :; do sleep 0.05; done"
    )
    assert at(channel, ours, heard, script) == 3
    assert "got hello\r\n" in heard.text
    assert heard.text.endswith("caught\r\n")


def test_nothing_of_much_output_is_lost(channel: CommandChannel, ours: Ends) -> None:
    heard = Heard()
    assert at(channel, ours, heard, "seq 20000; exit 9") == 9
    assert heard.text == "".join(f"{number}\r\n" for number in range(1, 20001))


def test_what_it_leaves_in_the_background_does_not_keep_us(
    channel: CommandChannel, ours: Ends
) -> None:
    heard = Heard()
    assert at(channel, ours, heard, f"sleep {MARK}1 & echo done") == 0
    assert heard.text == "done\r\n"


def test_the_way_out_ends_a_program_that_takes_no_notice(
    channel: CommandChannel, ours: Ends
) -> None:
    heard = Heard(ready=lambda: ours.type(OUT))
    with pytest.raises(LeftError):
        at(channel, ours, heard, f"trap '' INT TERM; echo ready; sleep {MARK}2; sleep {MARK}2")
    assert not alive(f"sleep {MARK}2")
    assert channel.run(["echo", "on"], timeout=20).stdout == b"on\n", "the session goes on"


def test_a_program_that_is_not_there_says_so_at_the_terminal(
    channel: CommandChannel, ours: Ends
) -> None:
    heard = Heard()
    argv = (f"/none-{MARK}",)
    status = channel.stream(
        argv, stdin=None, on_output=heard.take, timeout=CEILING, terminal=ours.lent
    )
    assert (status, "not found" in heard.text.lower() or "No such" in heard.text) == (127, True)


def test_a_guest_from_before_that_has_no_terminals_is_reached_by_ssh(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hostile(machine, monkeypatch):
        with connection.connect(machine) as found:
            assert not found.has_terminals  # type: ignore[union-attr]
        with (
            pytest.raises(RaveError, match="not running"),
            connection.connect(machine, terminals=True),
        ):
            pass


# --- as a command, over SSH, at a real terminal ---------------------------------------------------


def around(words: str, before: str = "") -> list[str]:
    """Return a session that says how its terminal is before and after a command of rave."""
    rave = " ".join(RAVE)
    script = f"stty -g; {before} {rave} {words}; echo ended $?; stty -g"
    return ["/bin/sh", "-c", f"PATH=/usr/bin:/bin:$PATH; {script}"]


def ended(terminal: Terminal, code: int) -> None:
    """Check how a session of `around` ended: the terminal is as before."""
    terminal.end()
    modes = re.findall(r"^[0-9a-f:]{30,}\r$", terminal.shown, re.MULTILINE)
    assert len(modes) == 2, terminal.shown
    assert modes[0] == modes[1]
    assert f"ended {code}\r" in terminal.shown, terminal.shown


def test_a_command_at_our_terminal_works_as_one_there(over_ssh: ExecutingSshd) -> None:
    script = "'stty size; read line; echo got $line; exit 5'"
    with Terminal(around(f"vm exec -t demo -- sh -c {script}"), size=(31, 99)) as terminal:
        terminal.until("31 99")
        terminal.type("abc\r")
        terminal.until("got abc")
        ended(terminal, 5)


def test_another_size_of_the_window_reaches_it(over_ssh: ExecutingSshd) -> None:
    script = "'trap \"stty size; exit\" WINCH; echo ready; while :; do sleep 0.05; done'"
    with Terminal(around(f"vm exec -t demo -- sh -c {script}")) as terminal:
        terminal.until("ready")
        termios.tcsetwinsize(terminal.master, (40, 120))
        terminal.until("40 120")
        ended(terminal, 0)


def test_the_way_out_leaves_the_terminal_as_it_was(over_ssh: ExecutingSshd) -> None:
    script = f"'trap \"\" INT; echo ready; sleep {MARK}3'"
    with Terminal(around(f"vm exec -t demo -- sh -c {script}")) as terminal:
        terminal.until("ready")
        terminal.type("\x03" + OUT)
        ended(terminal, 130)
        assert "interrupted" in terminal.shown
    assert not alive(f"sleep {MARK}3")


def test_so_does_a_guest_that_is_gone(over_ssh: ExecutingSshd) -> None:
    with Terminal(around(f"vm exec -t demo -- sh -c 'echo ready; sleep {MARK}4'")) as terminal:
        terminal.until("ready")
        over_ssh.drop()
        ended(terminal, ExitCode.NOT_READY)
        assert "the connection broke" in terminal.shown


def test_so_does_a_signal_that_ends_us(over_ssh: ExecutingSshd) -> None:
    words = f"vm exec -t demo -- sh -c 'echo ready; sleep {MARK}5'"
    with Terminal(around(words, before="timeout --foreground --preserve-status 6")) as terminal:
        terminal.until("ready")
        ended(terminal, 143)
    assert not alive(f"sleep {MARK}5")


def test_without_a_terminal_it_is_refused(over_ssh: ExecutingSshd) -> None:
    done = rave_exec("-t", "--", "true")
    assert done.returncode == ExitCode.USAGE
    assert b"--terminal needs a terminal, and standard input and standard output are none" in (
        done.stderr
    )
    done = rave_exec("-t", "--json", "--", "true")
    assert done.returncode == ExitCode.USAGE


# --- the console ---------------------------------------------------------------------------------


@pytest.fixture
def running(machine: Machine, host: Host, outside: Path) -> Machine:
    printed = {"console": "\x1b[31mLinux version 6.1\x1b[0m\r\n"}
    host.behave(steps=[printed, {"report": {"stage": "systemd"}}])
    launch_unwatched(machine)
    until(lambda: machine.console_log.exists() and b"Linux" in machine.console_log.read_bytes())
    return machine


def test_the_console_is_followed_cleaned_until_the_machine_stops(running: Machine) -> None:
    with Terminal([*RAVE, "vm", "console", "demo"]) as terminal:
        assert "\x1b[31m" not in terminal.until("Linux version 6.1")
        lifecycle.kill(running)
        assert terminal.end() == 0
        assert "machine demo is stopped" in terminal.shown


def test_what_is_typed_into_an_attached_console_reaches_the_guest_and_its_answer_the_log(
    running: Machine,
) -> None:
    with Terminal(around("vm console demo --attach")) as terminal:
        terminal.until("gets out")
        until(lambda: not termios.tcgetattr(terminal.master)[3] & termios.ISIG)
        terminal.type("\x1b[32mhello\x03\r")
        terminal.until("\x1b[32mhello\x03\r")
        terminal.type(OUT)
        ended(terminal, 0)
        assert "left machine demo, which goes on" in terminal.shown
    assert b"\x1b[32mhello\x03\r" in running.console_log.read_bytes()
    os.close(console.open_keys(running))


def test_two_may_be_attached_at_once(running: Machine) -> None:
    words = [*RAVE, "vm", "console", "demo", "--attach"]
    with Terminal(words) as one, Terminal(words) as other:
        one.until("gets out")
        other.until("gets out")
        one.type("first ")
        other.until("first ")
        other.type("second ")
        one.until("first second ")


def test_an_attached_console_ends_with_its_machine(running: Machine) -> None:
    with Terminal(around("vm console demo --attach")) as terminal:
        terminal.until("gets out")
        lifecycle.kill(running)
        ended(terminal, 0)
        assert "machine demo is stopped" in terminal.shown


@pytest.mark.parametrize("older", [False, True], ids=["stopped", "started-by-an-older-rave"])
def test_a_machine_that_takes_no_keys_is_not_attached_to(
    machine: Machine, request: pytest.FixtureRequest, older: bool
) -> None:
    if older:
        request.getfixturevalue("running").console_keys.unlink()
    with pytest.raises(RaveError, match="nothing reads keys" if older else "not running") as caught:
        console.open_keys(machine)
    assert caught.value.exit_code is ExitCode.NOT_READY
    assert caught.value.hint is not None


def test_a_guest_that_reads_no_keys_stops_neither_us_nor_what_is_typed(machine: Machine) -> None:
    machine.runtime.mkdir(parents=True, exist_ok=True)
    os.mkfifo(machine.console_keys)
    reader = os.open(machine.console_keys, os.O_RDWR | os.O_NONBLOCK)
    keys = os.open(machine.console_keys, os.O_WRONLY | os.O_NONBLOCK)
    try:
        done = sum(iter(lambda: console._written(keys, b"x" * 4096), 0))
        assert done == len(os.read(reader, 1 << 20))
    finally:
        os.close(keys)
        os.close(reader)
