"""The command channel: the host's client against the guest's own program, and a hostile one."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from pwd import struct_passwd
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import command, connection
from rave_cli.machines.guest.channel import AnotherGuestError, CommandChannel, escaped
from rave_cli.machines.guest.command import connect
from rave_cli.signals import Interrupted
from rave_guest import child as guest_child
from rave_guest import command as guest_command
from rave_guest.command import LONGEST, WAITING, WINDOW, Server
from tests.unit.machines.test_exec import alive
from tests.waiting import CEILING, NEVER, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.conftest import Host

MARK = f"66.{os.getpid()}"


def serve(server: Server) -> None:
    """Be the guest's program until the host is gone and everything it started is, too."""
    gone = False
    while not gone or server.ending:
        gone |= not server.step()


@contextmanager
def port(machine: Machine, serve: Callable[[socket.socket], object]) -> Iterator[None]:
    """What QEMU does: one client of the socket at a time is the host's end of the guest's port."""
    machine.runtime.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(machine.command_socket))
    listener.listen(4)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    serve(client)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        machine.command_socket.unlink()


@pytest.fixture
def guest(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose guest serves the channel with its own program."""
    monkeypatch.setattr(command, "served", lambda _machine: True)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    def accepted(client: socket.socket) -> None:
        client.setblocking(False)
        serve(Server(client.fileno(), machine.spec.instance_id))

    with port(machine, accepted):
        yield


@pytest.fixture
def channel(machine: Machine, guest: None) -> Iterator[CommandChannel]:
    with connect(machine) as found:
        assert found is not None
        yield found


def hostile(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *answers: bytes | None
) -> AbstractContextManager[None]:
    """A guest that greets as it should, unless told otherwise, and then says `answers`."""
    monkeypatch.setattr(command, "served", lambda _machine: True)

    def serve(client: socket.socket) -> None:
        heard = b""
        while b"hello" not in heard or not heard.endswith(b"\n"):
            heard += client.recv(4096)
        nonce = json.loads(heard.partition(b"hello ")[2])["nonce"]
        greeting = {"v": 1, "nonce": nonce, "instance": machine.spec.instance_id, "window": 10}
        client.sendall(b"hello " + json.dumps(greeting).encode() + b"\n")
        client.recv(4096)
        for answer in answers:
            client.sendall(answer or b"")
        while client.recv(4096):
            pass

    return port(machine, serve)


def test_a_program_runs_with_its_streams_apart_and_its_exit_status(channel: CommandChannel) -> None:
    told = bytearray()
    argv = ["sh", "-c", "cat; echo no >&2; exit 7"]
    done = channel.run(argv, stdin=b"yes", timeout=CEILING, on_error=told.extend)
    assert told == b"no\n"
    assert (done.returncode, done.stdout, done.stderr) == (7, b"yes", b"no\n")


def test_one_session_runs_one_program_after_the_other(channel: CommandChannel) -> None:
    said = [channel.run(["echo", str(number)], timeout=CEILING).text for number in range(20)]
    assert said == [f"{number}\n" for number in range(20)]


def test_what_is_run_over_a_channel_that_goes_before_others_does_not(
    channel: CommandChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only root may go before others, so the kernel's two calls are stood in for."""
    told = channel.run(["nice"], timeout=CEILING).text
    monkeypatch.setattr(os, "getpriority", lambda _which, _who: -10)
    monkeypatch.setattr(
        os, "setpriority", lambda _which, _who, nice: os.write(1, b"set %d\n" % nice)
    )
    assert channel.run(["nice"], timeout=CEILING).text == f"set 0\n{told}"


def by_shell(monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    account = struct_passwd((*pwd.getpwuid(os.getuid())[:6], shell))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: account)


def test_a_program_is_started_without_a_shell_between(
    channel: CommandChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under emulation the operator's shell takes as long to start as a small program."""
    by_shell(monkeypatch, "/bin/false")
    assert channel.run(["echo", "$HOME"], timeout=CEILING).text == "$HOME\n"


@pytest.mark.parametrize(
    ("argv", "said", "status"),
    [
        (["type", "-t", "cd"], "builtin\n", 0),
        (["exit", "3"], "", 3),
        (["no-such-program-of-ours"], "", 127),
        (["/etc/passwd"], "", 126),
    ],
)
def test_what_is_no_program_is_the_shells(
    channel: CommandChannel,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    said: str,
    status: int,
) -> None:
    by_shell(monkeypatch, "/bin/bash")
    done = channel.run(argv, timeout=CEILING)
    assert (done.text, done.returncode) == (said, status)
    assert not status or status == 3 or "bash: " in done.error_text


@given(st.text(st.characters(blacklist_characters="\0"), max_size=20))
def test_a_shell_reads_a_quoted_word_back(word: str) -> None:
    import shlex

    assert shlex.split(guest_child.quoted(word)) == [word]


def test_much_goes_through_both_ways_byte_for_byte(channel: CommandChannel) -> None:
    data = os.urandom(3 << 20)
    assert channel.run(["cat"], stdin=data, timeout=CEILING).stdout == data


def test_a_program_that_wants_no_input_is_not_held_up_by_it(channel: CommandChannel) -> None:
    done = channel.run(["sh", "-c", "exec <&-; echo done"], stdin=b"x" * (1 << 20), timeout=CEILING)
    assert done.stdout == b"done\n"


def test_output_that_nobody_takes_holds_the_program_up_instead_of_filling_memory(
    machine: Machine,
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = Server(theirs.fileno(), "i")
        ours.sendall(b'\nhello {"v":1,"nonce":"n"}\nrun {"argv":["/usr/bin/yes"],"root":false}\n')
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        until(lambda: len(server.output) > WAITING)
        time.sleep(0.2)
        assert WAITING < len(server.output) < 2 * WAITING
        ours.close()
        thread.join(CEILING)
        assert not thread.is_alive()


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(
    channel: CommandChannel,
) -> None:
    with pytest.raises(RaveError, match=r"did not finish within 0\.5 s") as caught:
        channel.run(["sh", "-c", f"sleep {MARK}1 & sleep {MARK}1"], timeout=0.5)
    assert caught.value.exit_code is ExitCode.NOT_READY
    assert not alive(f"sleep {MARK}1")
    assert channel.run(["echo", "on"], timeout=CEILING).stdout == b"on\n", "the session goes on"


def test_a_program_that_ignores_its_end_is_killed(channel: CommandChannel) -> None:
    with pytest.raises(RaveError, match="did not finish"):
        channel.run(["sh", "-c", f"trap '' TERM; while :; do sleep 0.{MARK}; done"], timeout=0.5)
    assert not alive(f"sleep 0.{MARK}")


def test_an_interruption_ends_the_program_in_the_guest(channel: CommandChannel) -> None:
    def interrupt(_stream: int, _data: bytes) -> None:
        raise Interrupted(2)

    argv = ["sh", "-c", f"echo begun; exec sleep {MARK}2"]
    with pytest.raises(Interrupted):
        channel.stream(argv, stdin=None, on_output=interrupt, timeout=CEILING)
    assert not alive(f"sleep {MARK}2")


def test_a_host_that_leaves_ends_what_it_started(machine: Machine, guest: None) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.connect(str(machine.command_socket))
        request = json.dumps({"argv": ["sleep", f"{MARK}3"], "root": False})
        gone.sendall(f'\nhello {{"v":1,"nonce":"n"}}\nrun {request}\n'.encode())
        assert b"hello" in gone.recv(4096)
    assert not alive(f"sleep {MARK}3")


def test_whoever_comes_next_is_understood_whatever_was_left_half_said(machine: Machine) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = Server(theirs.fileno(), machine.spec.instance_id)
        ours.sendall(b'\nhello {"v":1,"nonce":"old"}\nrun {"argv":["cat"],"root":fal')
        server.step()
        channel = CommandChannel(ours, "demo")
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
        assert channel.run(["echo", "mine"], timeout=CEILING).stdout == b"mine\n"


@pytest.mark.parametrize(
    "line",
    [
        b"in AAAA",
        b"run []",
        b'run {"argv":[],"root":true}',
        b'run {"argv":["a\\u0000"],"root":true}',
        b'run {"argv":["/bin/true"],"root":1}',
        b"hello 7",
        b"\xff\xfe",
        b"x" * (LONGEST + 10),
        b"[" * 9000,
        b"kill",
        b"eof",
        b"in " + b"A" * (WINDOW * 2),
        b"raw \x1b",
        b'run {"argv":["a"],"root":false,"terminal":[24,80]}',
        b'run {"argv":["a"],"root":false,"terminal":["24",80,"x"]}',
        b'run {"argv":["/bin/true"],"root":false,"terminal":[24,80,"a\\u0000"]}',
        b"size 24 80",
        b"size x",
        b"size " + b"9" * 5000,
    ],
)
def test_nothing_that_a_host_says_stops_the_guest(machine: Machine, line: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = Server(theirs.fileno(), machine.spec.instance_id)
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        ours.sendall(b'\nhello {"v":1,"nonce":"n"}\n' + line + b"\n")
        channel = CommandChannel(ours, "demo")
        assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
        assert channel.run(["/bin/true"], timeout=CEILING).ok


def test_a_host_that_does_not_keep_to_the_window_is_left(machine: Machine) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = Server(theirs.fileno(), machine.spec.instance_id)
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        request = json.dumps({"argv": ["sleep", f"{MARK}9"], "root": False}).encode()
        ours.sendall(b'\nhello {"v":1,"nonce":"n"}\nrun ' + request + b"\n")
        assert b"hello" in ours.recv(4096)
        # Twice the window: a pipe takes one of it.
        for _ in range(2 * WINDOW // (48 << 10) + 2):
            ours.sendall(b"in " + b"A" * (64 << 10) + b"\n")
        until(lambda: not server.greeted)
        assert not alive(f"sleep {MARK}9")
        ours.close()
        thread.join(CEILING)


def test_a_line_that_comes_in_pieces_is_one(machine: Machine) -> None:
    """The guest's kernel gives a page at a time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = Server(theirs.fileno(), machine.spec.instance_id)
        server._read = lambda: os.read(server.fd, 7)  # type: ignore[method-assign]
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        channel = CommandChannel(ours, "demo")
        assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
        data = os.urandom(100 << 10)
        assert channel.run(["cat"], stdin=data, timeout=CEILING).stdout == data


@given(st.binary(max_size=200) | st.text("\x1bEN\n", max_size=40).map(str.encode))
def test_what_is_brought_as_it_is_comes_in_one_line(data: bytes) -> None:
    line = escaped(data)
    assert b"\n" not in line
    assert guest_command.unescaped(line) == data


@pytest.mark.parametrize("line", [b"\x1b", b"a\x1bX", b"\x1b\x1bE", b"\x1bE\x1b"])
def test_an_escape_that_is_none_is_no_data(line: bytes) -> None:
    assert guest_command.unescaped(line) == b""


class OlderGuest(Server):
    """Knows base64 alone."""

    def _say(self, word: bytes, rest: bytes) -> None:
        super()._say(word, rest.replace(b'"raw": true, ', b""))

    def _obey(self, line: bytes) -> None:
        assert not line.startswith(b"raw")
        super()._obey(line)


def test_an_older_guest_is_brought_base64(machine: Machine) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = OlderGuest(theirs.fileno(), machine.spec.instance_id)
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        channel = CommandChannel(ours, "demo")
        assert channel.greet(machine.spec.instance_id, time.monotonic() + 20)
        data = os.urandom(100 << 10)
        assert channel.run(["cat"], stdin=data, timeout=60).stdout == data


class EarlyWords(Server):
    """A port whose words come before the news of the host: after the first it gives the end."""

    given = b""
    ended = False

    def _read(self) -> bytes:
        try:
            self.given = super()._read()
        except BlockingIOError:
            if self.given and not self.ended:
                self.ended = True
                return b""
            raise
        return self.given


def test_a_host_whose_words_come_before_it_is_answered(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen once in sixty commands: the greeting was dropped, and five seconds later SSH taken."""
    monkeypatch.setattr("rave_cli.machines.guest.channel.AGAIN", 60.0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = EarlyWords(theirs.fileno(), machine.spec.instance_id)
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        channel = CommandChannel(ours, "demo")
        assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
        assert channel.run(["echo", "here"], timeout=CEILING).stdout == b"here\n"


def test_a_host_that_is_gone_when_its_words_are_read_leaves_nothing_running(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_command, "ARRIVES", 0.2)
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        server = Server(theirs.fileno(), machine.spec.instance_id)
        request = json.dumps({"argv": ["sleep", f"{MARK}8"], "root": False}).encode()
        ours.sendall(b'\nhello {"v":1,"nonce":"n"}\nrun ' + request + b"\n")
        ours.close()
        serve(server)
        assert server.child is None
    assert not alive(f"sleep {MARK}8")


def ask(channel: CommandChannel) -> object:
    return channel.ask("become", {}, timeout=CEILING)["answer"]


def run(channel: CommandChannel) -> object:
    return channel.run(["true"], timeout=CEILING).stdout


@pytest.mark.parametrize(
    ("does", "said", "found"),
    [(run, b"out aGk=\nexit 0\n", b"hi"), (ask, b'did {"answer": "hi"}\n', "hi")],
)
def test_a_greeting_that_a_guest_dropped_is_said_again(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    does: Callable[[CommandChannel], object],
    said: bytes,
    found: object,
) -> None:
    """A guest from before dropped it; one that is only slow answers both."""
    monkeypatch.setattr("rave_cli.machines.guest.channel.AGAIN", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        heard: list[bytes] = []

        def answer() -> None:
            data = b""
            while data.count(b"hello") < 3:
                data += theirs.recv(4096)
            nonce = json.loads(data.split(b"hello ")[1].partition(b"\n")[0])["nonce"]
            greeting = {"v": 1, "nonce": nonce, "instance": machine.spec.instance_id}
            hello = b"hello " + json.dumps(greeting | {"own": ["become"]}).encode() + b"\n"
            theirs.sendall(hello)
            heard.append(theirs.recv(4096))
            theirs.sendall(hello + said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        channel = CommandChannel(ours, "demo")
        assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
        assert does(channel) == found
        thread.join(CEILING)
    assert heard[0].startswith((b"run", b"become"))


class GuestProgram:
    """The guest's own program in a process of its own, at one end of a port."""

    def __init__(self, fd: int, instance: str) -> None:
        self.fd = fd
        self.words = [sys.executable, "-c", SERVING, str(fd), instance]
        self.ends = 0
        self.start()

    def start(self) -> None:
        source = str(Path(guest_command.__file__).parents[1])
        self.process = subprocess.Popen(
            self.words, pass_fds=[self.fd], env={"PATH": "/usr/bin:/bin", "PYTHONPATH": source}
        )

    def end(self, number: signal.Signals) -> None:
        self.ends += 1
        self.process.send_signal(number)
        self.process.wait(CEILING)


SERVING = """
import os, sys
from rave_guest import command, report
report.port = lambda *_: f"/proc/self/fd/{sys.argv[1]}"
report.instance = lambda: sys.argv[2]
os.open = lambda *_: int(sys.argv[1])
command.main([])
"""


@pytest.fixture
def ended(machine: Machine) -> Iterator[tuple[GuestProgram, CommandChannel]]:
    """The guest's program, with a session that is open."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        program = GuestProgram(theirs.fileno(), machine.spec.instance_id)
        channel = CommandChannel(ours, "demo")
        assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
        try:
            yield program, channel
        finally:
            program.end(signal.SIGKILL)


# Ends itself once nobody listens any more.
TALKS = ("sh", "-c", "while echo; do sleep 0.05; done")


def test_a_command_whose_guest_program_is_stopped_is_not_waited_for(
    ended: tuple[GuestProgram, CommandChannel],
) -> None:
    program, channel = ended

    def stop(_stream: int, _data: bytes) -> None:
        program.end(signal.SIGTERM)

    with pytest.raises(RaveError, match="stopped or restarted") as caught:
        channel.stream(TALKS, stdin=None, on_output=stop, timeout=600)
    assert caught.value.exit_code is ExitCode.NOT_READY
    assert "rave-command.service" in str(caught.value.hint)


def test_a_command_whose_guest_program_was_killed_ends_when_that_is_back(
    machine: Machine, ended: tuple[GuestProgram, CommandChannel]
) -> None:
    program, channel = ended

    def kill(_stream: int, _data: bytes) -> None:
        if not program.ends:
            program.end(signal.SIGKILL)
            program.start()

    with pytest.raises(RaveError, match="stopped or restarted"):
        channel.stream(TALKS, stdin=None, on_output=kill, timeout=600)
    assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
    assert channel.run(["echo", "on"], timeout=CEILING).stdout == b"on\n"


def test_a_standstill_whose_guest_program_was_killed_is_not_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = CommandChannel(ours, "demo")
        channel._own = ("hold",)
        theirs.sendall(b"\ngone\n")
        with pytest.raises(RaveError, match="stopped or restarted"):
            channel.ask("hold", {}, timeout=600)


def test_a_greeting_goes_on_after_the_guests_program_was_started_anew(machine: Machine) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = Server(theirs.fileno(), machine.spec.instance_id)
        server.say_gone()
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        channel = CommandChannel(ours, "demo")
        assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
        assert channel.run(["echo", "on"], timeout=CEILING).stdout == b"on\n"


def test_a_guest_without_a_host_keeps_nothing_to_say(machine: Machine) -> None:
    """Nobody reads a port without a host: the word is dropped instead of kept for the next."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        server = Server(theirs.fileno(), machine.spec.instance_id)
        server.say_gone()
        assert not server.output


@pytest.mark.parametrize("size", [b"0 0", b"99999999 1", b"-1 -1", b"1 2 3", b"x y"])
def test_a_size_that_no_terminal_has_changes_nothing(machine: Machine, size: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        server = Server(theirs.fileno(), machine.spec.instance_id)
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        request = b'{"argv":["/bin/cat"],"root":false,"terminal":[24,80,"x"]}'
        ours.sendall(b'\nhello {"v":1,"nonce":"n"}\nrun ' + request + b"\nsize " + size + b"\n")
        channel = CommandChannel(ours, "demo")
        assert channel.greet(machine.spec.instance_id, time.monotonic() + CEILING)
        assert channel.has_terminals
        assert channel.run(["/bin/true"], timeout=CEILING).ok


def test_two_at_once_get_the_channel_one_and_ssh_the_other(machine: Machine, guest: None) -> None:
    with connect(machine) as first, connect(machine) as second:
        assert first is not None
        assert second is None
    with connect(machine) as again:
        assert again is not None


def test_whoever_waits_a_moment_gets_it(machine: Machine, guest: None) -> None:
    with connect(machine) as first:
        assert first is not None
        found: list[object] = []

        def late() -> None:
            with connect(machine) as second:
                found.append(second)

        thread = threading.Thread(target=late)
        thread.start()
        time.sleep(0.1)
    thread.join(CEILING)
    assert found != [None]


def test_a_machine_without_the_channel_is_reached_by_ssh(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(machine) as found:
        assert found is None
    with pytest.raises(RaveError, match="not running"), connection.connect(machine):
        pass


def test_a_guest_that_does_not_serve_it_costs_no_wait(machine: Machine) -> None:
    with port(machine, lambda client: client.recv(1)), connect(machine, timeout=NEVER) as found:
        assert found is None


def test_a_guest_that_never_answers_is_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "served", lambda _machine: True)

    def serve(client: socket.socket) -> None:
        while client.recv(100):
            pass

    with port(machine, serve), connect(machine, timeout=0.3) as found:
        assert found is None


def test_one_that_floods_instead_is_given_up_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "served", lambda _machine: True)

    def serve(client: socket.socket) -> None:
        while True:
            client.sendall(b"hello {}\n" * 1000)

    with port(machine, serve), connect(machine, timeout=20) as found:
        assert found is None


def test_another_instance_is_not_spoken_to(machine: Machine, guest: None) -> None:
    from dataclasses import replace

    other = replace(machine, spec=replace(machine.spec, instance_id="f" * 32))
    with pytest.raises(AnotherGuestError), connect(other):
        pass


@pytest.mark.parametrize(
    "answer",
    [
        b"out !!!!\n", b"exit many\n", b"took x\n", b"\x1b[2J\n", b"hello {}\n", b"\n",
        b"x" * (300 << 10), b"refused \x1b]0;no\x07\n", None,
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_a_fault_that_names_the_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr("rave_cli.machines.guest.channel.ENDS", 0.2)
    with hostile(machine, monkeypatch, answer), connect(machine) as found:
        assert found is not None
        with pytest.raises(RaveError, match="machine demo") as caught:
            found.run(["true"], timeout=0.5)
    assert caught.value.exit_code is ExitCode.NOT_READY
    assert "\x1b" not in caught.value.message


def test_the_socket_of_a_started_machine_is_the_operators_alone(
    host: Host, machine: Machine
) -> None:
    from rave_cli import process

    place = machine.directory / "made"
    fd = os.open(os.devnull, os.O_WRONLY)
    try:
        pid = process.detach(["/bin/sh", "-c", f"echo >{place}"], output=fd)
        os.waitpid(pid, 0)
    finally:
        os.close(fd)
    assert place.stat().st_mode & 0o777 == 0o600
