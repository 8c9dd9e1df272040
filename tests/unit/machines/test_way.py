"""The way in that no ban closes: the host's client against the guest's own program."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines.guest import ssh, way
from rave_cli.machines.guest.ssh import BannedError, connect, is_banned, openssh_argv
from rave_guest import way as guest
from tests.unit.machines.fake_sshd import FakeSshd
from tests.waiting import CEILING, NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine


@pytest.fixture
def sshd(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSshd]:
    public = machine.login_key.with_suffix(".pub").read_text().split()[1]
    with FakeSshd(machine.host_key.read_bytes(), public) as server:
        monkeypatch.setattr(guest, "SSHD", ("127.0.0.1", server.port))
        monkeypatch.setattr(guest, "PAUSE", 0.01)
        yield server


@pytest.fixture
def port(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """What QEMU does: one client of the socket at a time is the host's end of the guest's port."""
    machine.runtime.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(machine.way_socket))
    listener.listen(4)
    word = machine.spec.instance_id.encode() + b"\n"
    monkeypatch.setattr(guest, "password", lambda: word)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError, TimeoutError):
                    client.setblocking(False)
                    guest.admit(guest.GuestEnd(client.fileno()), b"")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def banned(machine: Machine) -> None:
    """The guest has told of a ban."""
    line = {"v": 1, "instance": "i", "boot": "b", "uptime": 9.0, "stage": "ban", "failures": 3}
    report = line | {"until": time.time() + 4000, "seconds": 6000}
    machine.stage_file.write_text(json.dumps(report) + "\n")


def silent() -> socket.socket:
    """A port that QEMU forwards and behind which the guest drops everything."""
    return socket.create_server(("127.0.0.1", 0))


def test_a_banned_operator_gets_in_all_the_same(
    machine: Machine, port: socket.socket, banned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever waited for the port that the ban closes would wait for ever.
    monkeypatch.setattr(ssh, "SILENT", NEVER)
    with silent() as dropped:
        for _ in range(3):
            with connect(machine, port=dropped.getsockname()[1]) as session:
                assert session.run(["true"], timeout=CEILING).ok


def test_a_port_that_stays_silent_for_no_reason_told_is_gone_round_too(
    machine: Machine, port: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "SILENT", 0.2)
    with silent() as dropped, connect(machine, port=dropped.getsockname()[1]) as session:
        assert session.run(["true"], timeout=CEILING).ok


def test_the_key_and_the_host_key_count_there_as_everywhere(
    machine: Machine, port: socket.socket, sshd: FakeSshd, banned: None
) -> None:
    sshd.authorized = "nobody's"
    with (
        silent() as dropped,
        pytest.raises(ssh.LoginRefusedError),
        connect(machine, port=dropped.getsockname()[1]),
    ):
        pass


def test_without_that_way_a_ban_is_told(machine: Machine, sshd: FakeSshd, banned: None) -> None:
    with pytest.raises(BannedError), connect(machine, port=sshd.port):
        pass
    with pytest.raises(BannedError):
        is_banned(machine)


def test_a_way_behind_which_nobody_answers_is_no_way(
    machine: Machine, sshd: FakeSshd, banned: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way, "ANSWERS", 0.3)
    machine.runtime.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(machine.way_socket))
        listener.listen()
        with pytest.raises(BannedError), connect(machine, port=sshd.port):
            pass


def test_what_was_meant_for_the_one_before_is_left_out() -> None:
    here, there = socket.socketpair()
    word = b"id\n"
    with here, there:
        there.sendall(b"old i" + b"x" * 100 + word + b"SSH-2.0")
        assert way._answered(here, word, time.monotonic() + CEILING)
        assert here.recv(100) == b"SSH-2.0"
        there.sendall(b"old i")
        threading.Timer(0.1, there.sendall, [b"d\nSSH"]).start()
        assert way._answered(here, word, time.monotonic() + CEILING)
        assert here.recv(100) == b"SSH"
        there.close()
        assert not way._answered(here, word, time.monotonic() + CEILING)


def test_openssh_goes_that_way_with_nothing_of_ours_in_its_arguments(
    machine: Machine, port: socket.socket, banned: None
) -> None:
    assert is_banned(machine)
    argv, env = way.proxy(machine)
    options = openssh_argv(machine, 4022, terminal=False, proxy=argv)
    assert any(word.startswith("ProxyCommand=") and "way.py" in word for word in options)
    assert machine.spec.instance_id not in " ".join(options)
    with subprocess.Popen(
        argv, env=os.environ | env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"SSH-2.0-test\r\n")
        child.stdin.flush()
        assert child.stdout.read(8) == b"SSH-2.0-"
        child.stdin.close()
        assert child.wait(CEILING) == 0
