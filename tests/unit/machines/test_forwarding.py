"""Forwards that an operator adds to a running machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import lifecycle, status
from rave_cli.machines.qemu import added, forwarding, ports
from rave_cli.machines.spec import Forward
from tests.unit.machines.test_terminal import outside, start

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.fake_sshd import FakeSshd

__all__ = ["outside"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def running(machine: Machine, sshd: FakeSshd, outside: Path) -> Machine:
    start(machine)
    return machine


def added_ones(machine: Machine) -> list[tuple[str, int, int]]:
    return [
        (entry.forward.address, entry.forward.host, entry.forward.guest)
        for entry in forwarding.listed(machine)
        if entry.added
    ]


def test_one_is_added_listed_kept_and_removed(running: Machine) -> None:
    own = ports.of(running)
    port = free_port()
    forwarding.add(running, Forward(port, 3002))
    assert added_ones(running) == [("127.0.0.1", port, 3002)]
    assert ports.of(running) == own
    assert status.of(running).ports == own
    forwarding.remove(running, port)
    assert added_ones(running) == []
    assert len(forwarding.listed(running)) == len(own)


def started(machine: Machine) -> list[str]:
    """Start a machine and return what is told of its forwards."""
    notes = lifecycle.start(machine, on_stage=lambda _stage: None).notes
    return [note for note in notes if "forward" in note]


def restarted(machine: Machine) -> list[str]:
    lifecycle.kill(machine)
    return started(machine)


def test_a_kept_one_is_there_again_after_each_start_until_it_is_removed(running: Machine) -> None:
    kept, passing = free_port(), free_port()
    forwarding.add(running, Forward(kept, 3002), keep=True)
    forwarding.add(running, Forward(passing, 3002))
    for _ in range(2):
        assert restarted(running) == []
        assert added_ones(running) == [("127.0.0.1", kept, 3002)]
        assert [entry.kept for entry in forwarding.listed(running) if entry.added] == [True]
        assert status.of(running).ports == ports.of(running)
    forwarding.remove(running, kept)
    assert restarted(running) == []
    assert added_ones(running) == []


def test_any_free_port_that_is_kept_stays_the_same(running: Machine) -> None:
    made = forwarding.add(running, Forward(0, 3002), keep=True)
    restarted(running)
    assert added_ones(running) == [("127.0.0.1", made.host, 3002)]


def test_one_that_is_there_is_kept_from_now_on(running: Machine) -> None:
    made = forwarding.add(running, Forward(0, 3002))
    assert forwarding.add(running, Forward(made.host, 3002), keep=True) == made
    assert added_ones(running) == [("127.0.0.1", made.host, 3002)]
    restarted(running)
    assert added_ones(running) == [("127.0.0.1", made.host, 3002)]


def test_a_kept_one_whose_port_is_taken_is_missed_and_the_machine_runs(running: Machine) -> None:
    port = free_port()
    forwarding.add(running, Forward(port, 3002), keep=True)
    lifecycle.kill(running)
    with socket.create_server(("127.0.0.1", port)):
        (note,) = started(running)
    assert f"the kept forward 127.0.0.1:{port} -> 3002 is missing" in note
    assert "in use" in note
    assert added_ones(running) == []
    # It is asked for again at the next start.
    assert restarted(running) == []
    assert added_ones(running) == [("127.0.0.1", port, 3002)]


def test_a_kept_one_is_removed_from_a_stopped_machine(running: Machine) -> None:
    made = forwarding.add(running, Forward(0, 3002), keep=True)
    lifecycle.kill(running)
    assert forwarding.remove(running, made.host) == made
    assert added.kept(running) == frozenset()
    with pytest.raises(RaveError, match="not running"):
        forwarding.remove(running, made.host)


def test_a_damaged_list_of_kept_ones_keeps_no_machine_from_starting(running: Machine) -> None:
    added.kept_place(running).write_text("{")
    (note,) = restarted(running)
    assert "the list of kept forwards" in note
    assert added.kept_place(running).exists()


def test_port_0_takes_any_that_is_free_and_tells_which(running: Machine) -> None:
    first, second = (forwarding.add(running, Forward(0, 3002)).host for _ in range(2))
    assert first
    assert second not in (0, first)
    assert {host for _, host, _ in added_ones(running)} == {first, second}


def test_another_way_to_ssh_does_not_take_the_place_of_the_machine_s_own(
    running: Machine,
) -> None:
    own = ports.ssh(running)
    forwarding.add(running, Forward(0, 22))
    assert ports.ssh(running) == own


def test_a_port_that_the_guest_closes_is_refused_with_the_way_to_it(running: Machine) -> None:
    with pytest.raises(RaveError, match="closes port 5432") as caught:
        forwarding.add(running, Forward(15432, 5432))
    assert caught.value.hint == "rave vm ssh demo -- -N -L 15432:localhost:5432"
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_port_that_another_program_has_is_named(running: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(RaveError, match=f"127.0.0.1:{port} .* in use") as caught:
            forwarding.add(running, Forward(port, 3002))
    assert f"sport = :{port}" in str(caught.value.hint)
    assert added_ones(running) == []


def test_the_same_port_twice_is_refused(running: Machine) -> None:
    port = free_port()
    forwarding.add(running, Forward(port, 3002))
    with pytest.raises(RaveError, match="is a forward of machine demo already"):
        forwarding.add(running, Forward(port, 3002))
    assert len(added_ones(running)) == 1


@pytest.mark.parametrize(
    ("number", "hint"), [(1, "ports below 1024"), (99, "ip -brief address")], ids=["acces", "none"]
)
def test_a_port_or_address_that_may_not_be_had_is_told(
    running: Machine, number: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root no port is privileged, so the kernel's answer is put in its mouth."""

    def bind(_self: socket.socket, _address: object) -> None:
        code = 13 if number == 1 else number
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "bind", bind)
        with pytest.raises(RaveError, match="cannot be had") as caught:
            forwarding.add(running, Forward(80, 3002))
    assert hint in str(caught.value.hint)


def test_the_machine_s_own_are_not_removed(running: Machine) -> None:
    with pytest.raises(RaveError, match="was made with") as caught:
        forwarding.remove(running, ports.ssh(running))
    assert caught.value.exit_code == ExitCode.USAGE
    with pytest.raises(RaveError, match="no forward from port 1 "):
        forwarding.remove(running, 1)


def test_a_stopped_machine_has_none(machine: Machine) -> None:
    for action in (
        lambda: forwarding.add(machine, Forward(0, 22)),
        lambda: forwarding.remove(machine, 1),
        lambda: forwarding.listed(machine),
    ):
        with pytest.raises(RaveError, match="is not running") as caught:
            action()
        assert caught.value.exit_code == ExitCode.NOT_READY


def test_they_go_with_the_run_they_were_made_in(running: Machine) -> None:
    forwarding.add(running, Forward(0, 3002))
    lifecycle.stop(running)
    start(running)
    assert added.read(running) == frozenset()
    assert added_ones(running) == []


def test_the_commands_say_what_they_did(running: Machine) -> None:
    from tests.terminal import RAVE

    def rave(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [*RAVE, "vm", "forward", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    made = json.loads(rave("add", "--json", "demo", "0:3002").stdout)
    assert (made["address"], made["guest"], made["added"]) == ("127.0.0.1", 3002, True)
    listed = rave("list", "demo").stdout
    assert f"127.0.0.1:{made['host']}\t3002\tadded" in listed
    assert rave("remove", "demo", f"{made['host']}:3002").returncode == 0
    everywhere = rave("add", "demo", "0:3002", "--address", "0.0.0.0")  # noqa: S104 - nobody listens
    assert "warning: whoever reaches 0.0.0.0" in everywhere.stderr
    assert rave("add", "demo", "0:3002", "--address", "::1").returncode == ExitCode.USAGE
    assert rave("add", "demo", "x").returncode == ExitCode.USAGE
    assert rave("remove", "demo", "x").returncode == ExitCode.USAGE
