"""SSH with a pinned host key, against a server in a thread."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import session as sessions
from rave_cli.machines.guest import ssh
from rave_cli.machines.guest.ssh import (
    BannedError,
    HostKeyChangedError,
    LoginRefusedError,
    connect,
    openssh_argv,
    openssh_config,
)
from rave_cli.machines.identity import new_ssh_key
from tests.unit.machines.fake_sshd import FakeSshd
from tests.waiting import CEILING

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


def authorized(machine: Machine) -> str:
    return machine.login_key.with_suffix(".pub").read_text().split()[1]


def refused(machine: Machine, server: FakeSshd, kind: type[RaveError], match: str) -> None:
    with pytest.raises(kind, match=match), connect(machine, port=server.port):
        pass


def test_a_command_answers_with_status_and_both_outputs(machine: Machine) -> None:
    def handler(command: str, data: bytes) -> tuple[int, bytes, bytes]:
        return 7, command.encode(), b"err:" + data

    key = machine.host_key.read_bytes()
    with (
        FakeSshd(key, authorized(machine), handler=handler) as server,
        connect(machine, port=server.port) as session,
    ):
        told = bytearray()
        argv = ["echo", "a b", "$HOME"]
        done = session.run(argv, stdin=b"in", timeout=CEILING, on_error=told.extend)
        assert told == b"err:in"
        assert (done.returncode, done.stdout, done.stderr) == (
            7,
            b"echo 'a b' '$HOME'",
            b"err:in",
        )
        assert session.run(["id"], timeout=CEILING, sudo=True).stdout == b"sudo -n -- id"
        assert server.connections == 1


def test_much_goes_both_ways_at_once(machine: Machine) -> None:
    data = bytes(range(256)) * 20_000

    with (
        FakeSshd(
            machine.host_key.read_bytes(), authorized(machine), handler=lambda _c, d: (0, d, b"")
        ) as server,
        connect(machine, port=server.port) as session,
    ):
        assert session.run(["cat"], stdin=data, timeout=CEILING).stdout == data


def test_a_command_that_does_not_end_is_given_up(machine: Machine) -> None:
    def handler(_command: str, _data: bytes) -> tuple[int, bytes, bytes]:
        time.sleep(3)
        return 0, b"", b""

    with (
        FakeSshd(machine.host_key.read_bytes(), authorized(machine), handler=handler) as server,
        connect(machine, port=server.port) as session,
        pytest.raises(RaveError, match=r"sleep did not finish within 1 s") as caught,
    ):
        session.run(["sleep", "60"], timeout=1)
    assert caught.value.exit_code == ExitCode.NOT_READY


def test_a_broken_connection_is_told(machine: Machine) -> None:
    with FakeSshd(machine.host_key.read_bytes(), authorized(machine)) as server:

        def handler(_command: str, _data: bytes) -> tuple[int, bytes, bytes]:
            server.drop()
            return 0, b"", b""

        server.handler = handler
        with (
            connect(machine, port=server.port) as session,
            pytest.raises(RaveError, match="the connection broke"),
        ):
            session.run(["true"], timeout=CEILING)


def test_output_without_end_is_cut_off(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_OUTPUT", 100_000)
    with (
        FakeSshd(
            machine.host_key.read_bytes(),
            authorized(machine),
            handler=lambda _c, _d: (0, b"y" * 1_000_000, b""),
        ) as server,
        connect(machine, port=server.port) as session,
        pytest.raises(RaveError, match="printed more than"),
    ):
        session.run(["yes"], timeout=CEILING)


def test_a_changed_host_key_is_refused_before_anything_is_sent(machine: Machine) -> None:
    with FakeSshd(new_ssh_key("x").private, authorized(machine)) as server:
        refused(machine, server, HostKeyChangedError, "another host key")
        assert server.logins == []


@pytest.mark.parametrize("content", ["", "rave-other ssh-ed25519 AAAA\n"])
def test_nothing_is_trusted_that_is_not_pinned(machine: Machine, content: str) -> None:
    machine.known_hosts.write_text(content)
    with FakeSshd(machine.host_key.read_bytes(), authorized(machine)) as server:
        refused(machine, server, HostKeyChangedError, "does not pin a key")
        assert server.logins == []


def test_a_pin_that_anybody_may_have_written_counts_nowhere(machine: Machine) -> None:
    machine.known_hosts.chmod(0o666)
    with FakeSshd(machine.host_key.read_bytes(), authorized(machine)) as server:
        refused(machine, server, RaveError, "can be changed by anybody")
        assert server.logins == []
    with pytest.raises(RaveError, match="can be changed by anybody"):
        ssh.openssh_argv(machine, 22, terminal=False)


def test_a_login_key_that_others_can_read_is_not_used(machine: Machine) -> None:
    machine.login_key.chmod(0o644)
    with FakeSshd(machine.host_key.read_bytes(), authorized(machine)) as server:
        refused(machine, server, RaveError, "can be read by others")
        assert server.logins == []


def test_a_lost_pin_is_put_back_by_the_command_that_the_error_names(machine: Machine) -> None:
    machine.known_hosts.write_text("")
    with FakeSshd(machine.host_key.read_bytes(), authorized(machine)) as server:
        with pytest.raises(HostKeyChangedError) as caught, connect(machine, port=server.port):
            pass
        subprocess.run(["/bin/sh", "-c", str(caught.value.hint)], check=True, env=os.environ)
        with connect(machine, port=server.port) as session:
            assert session.run(["true"], timeout=CEILING).ok


def told_of_a_ban(machine: Machine, seconds: float, *, lifted: bool = False) -> None:
    """Let the guest have told of a ban that lasts so much longer."""
    line = {"v": 1, "instance": "i", "boot": "b", "uptime": 9.0}
    figures = {"until": time.time() + seconds, "seconds": 60, "failures": 3}
    reports = [line | {"stage": "ban"} | figures, *([line | {"stage": "unban"}] if lifted else [])]
    machine.stage_file.write_text("".join(json.dumps(report) + "\n" for report in reports))


def test_a_banned_operator_is_told_at_once_for_how_long_and_why(machine: Machine) -> None:
    told_of_a_ban(machine, 59)
    with FakeSshd(machine.host_key.read_bytes(), authorized(machine), banner=False) as server:
        refused(machine, server, BannedError, r"bans this host for another \d+ s, because of 3")
        assert server.connections == 0


@pytest.mark.parametrize(("seconds", "lifted"), [(47, True), (-1, False)])
def test_a_ban_that_is_over_keeps_nobody_out(
    machine: Machine, seconds: float, lifted: bool
) -> None:
    told_of_a_ban(machine, seconds, lifted=lifted)
    with (
        FakeSshd(machine.host_key.read_bytes(), authorized(machine)) as server,
        connect(machine, port=server.port) as session,
    ):
        assert session.run(["true"], timeout=CEILING).ok


def test_the_agent_and_the_user_s_own_keys_are_never_offered(
    machine: Machine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".ssh").mkdir()
    own = new_ssh_key("me")
    (home / ".ssh" / "id_ed25519").write_bytes(own.private)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
    with FakeSshd(machine.host_key.read_bytes(), own.public.split()[1].decode()) as server:
        refused(machine, server, LoginRefusedError, "refuses the login key")
        assert server.logins == ["rave"]


def test_a_port_that_is_closed_silent_or_not_ssh_is_told_apart(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RaveError, match="no banner came"):
            ssh.await_banner(machine, port, time.monotonic() + 0.3)
    with pytest.raises(RaveError, match="refused"):
        ssh.await_banner(machine, port, time.monotonic() + 0.2)


def test_the_banner_is_waited_for_and_left_for_the_handshake(machine: Machine) -> None:
    with (
        FakeSshd(machine.host_key.read_bytes(), authorized(machine)) as server,
        ssh.await_banner(machine, server.port, time.monotonic() + CEILING) as connection,
    ):
        assert connection.recv(4) == b"SSH-"


def test_openssh_trusts_only_the_pinned_key_and_reads_no_configuration(machine: Machine) -> None:
    argv = openssh_argv(machine, 4022, ["-L", "9:localhost:9"], terminal=False)
    options = {argv[i + 1] for i, word in enumerate(argv) if word == "-o"}
    assert argv[:3] == ("ssh", "-F", "none")
    assert argv[-3:] == ("rave@127.0.0.1", "-L", "9:localhost:9")
    assert {
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "HostKeyAlias=rave-demo",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        f'UserKnownHostsFile="{machine.known_hosts}"',
        f'IdentityFile="{machine.login_key}"',
    } <= options
    assert "BatchMode=no" in openssh_argv(machine, 4022, terminal=True)


SSH = Path("/usr/bin/ssh")


def spaced(machine: Machine) -> Machine:
    """Return the machine moved to a place whose name is made of what needs quoting."""
    place = machine.directory.parent / "my 100% work"
    machine.directory.rename(place)
    return replace(machine, directory=place)


@pytest.mark.skipif(not SSH.exists(), reason="there is no OpenSSH client")
def test_openssh_reads_its_configuration_wherever_the_machine_lies(
    machine: Machine, tmp_path: Path
) -> None:
    moved = spaced(machine)
    file = tmp_path / "config"
    file.write_text(openssh_config(moved, 4022))
    done = subprocess.run(
        [SSH, "-F", file, "-G", "demo"], capture_output=True, text=True, check=True
    )
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert (told["hostname"], told["port"], told["user"]) == ("127.0.0.1", "4022", "rave")
    assert told["stricthostkeychecking"] == "true"
    assert told["identitiesonly"] == "yes"
    assert "my 100% work" in told["identityfile"].replace("%%", "%")
    assert "my 100% work" in told["userknownhostsfile"].replace("%%", "%")


@pytest.mark.skipif(not SSH.exists(), reason="there is no OpenSSH client")
def test_openssh_logs_in_by_its_configuration_and_by_no_other_key(
    machine: Machine, tmp_path: Path
) -> None:
    moved = spaced(machine)
    with FakeSshd(moved.host_key.read_bytes(), authorized(moved)) as server:
        file = tmp_path / "config"
        file.write_text(openssh_config(moved, server.port))
        argv = [str(SSH), "-F", str(file), "demo", "hello"]
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        assert (done.returncode, done.stdout) == (0, b"hello"), done.stderr
        moved.known_hosts.write_text(f"{moved.alias} {authorized(moved)}\n")
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 255


def test_paramiko_reads_the_configuration_too(machine: Machine) -> None:
    import paramiko

    place = machine.directory.parent / "my work"
    told = paramiko.SSHConfig.from_text(
        openssh_config(replace(machine, directory=place), 4022)
    ).lookup("demo")
    assert (told["hostname"], told["port"], told["user"]) == ("127.0.0.1", "4022", "rave")
    assert told["userknownhostsfile"] == f"{place}/known_hosts"
    keys: Any = told["identityfile"]
    assert keys == [f"{place}/identity/id_ed25519"]
