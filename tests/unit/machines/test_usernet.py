"""QEMU's table of forwards, and the forwards that a command adds for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import RaveError
from rave_cli.machines.qemu import added, usernet
from rave_cli.machines.qemu.added import HostForward
from rave_cli.machines.qemu.usernet import LOOPBACK, TEMPORARY, parse
from tests.waiting import CEILING

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


def by_guest(table: str) -> dict[int, int]:
    return {f.guest: f.host for f in parse(table) if f.address == LOOPBACK}


REAL = """\
Hub -1 (net0):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  TCP[ESTABLISHED]   38       127.0.0.1 41363       10.0.2.15    22     0     0\r
  TCP[HOST_FORWARD]  14       127.0.0.1 42095       10.0.2.15  3002     0     0\r
  TCP[HOST_FORWARD]  13       127.0.0.1 40269       10.0.2.15    22     0     0\r
  UDP[236 sec]       15       10.0.2.15 55555     192.0.2.1    53     0     0\r
"""


def test_the_table_of_a_real_qemu_is_read() -> None:
    assert by_guest(REAL) == {22: 40269, 3002: 42095}


@given(st.dictionaries(st.integers(1, 65535), st.integers(1, 65535), max_size=6))
def test_every_forward_on_loopback_is_found_and_no_other(forwards: dict[int, int]) -> None:
    rows = "".join(
        f"  TCP[HOST_FORWARD]  {fd}  127.0.0.1 {host:5}       10.0.2.15 {guest:5}     0     0\r\n"
        for fd, (guest, host) in enumerate(forwards.items(), 10)
    )
    other = "  TCP[HOST_FORWARD]  99               *    80       10.0.2.15    80     0     0\r\n"
    assert by_guest("Hub -1 (net0):\r\n" + rows + other) == forwards


@given(st.text(max_size=300))
def test_any_text_is_a_table_or_none(text: str) -> None:
    assert isinstance(parse(text), list)


class Monitor:
    """A monitor that keeps a table of forwards."""

    def __init__(self, *rows: HostForward) -> None:
        self.rows = list(rows)

    def human(self, command: str, *, timeout: float) -> str:
        if command.startswith("hostfwd_remove net0 tcp:"):
            _, address, host = command.split(":")
            self.rows = [r for r in self.rows if (r.address, r.host) != (address, int(host))]
            return f"host forwarding rule for tcp:{address}:{host} removed\r\n"
        return "".join(
            f"  TCP[HOST_FORWARD]  9  {r.address} {r.host}  10.0.2.15 {r.guest}     0     0\r\n"
            for r in self.rows
        )


OWN = [HostForward(LOOPBACK, 40269, 22), HostForward(LOOPBACK, 42095, 3002)]
LEFT = [HostForward(TEMPORARY, 37123, 5432), HostForward(TEMPORARY, 37124, 22)]
LEFT_BY_0_1_0 = [HostForward(LOOPBACK, 31000, 6379)]


def forwards(monitor: Any, machine: Machine) -> dict[int, int]:
    return usernet.forwards(monitor, machine, timeout=CEILING)


def test_what_a_killed_command_left_is_not_shown_and_taken_back(machine: Machine) -> None:
    machine.runtime.mkdir(parents=True)
    monitor = Monitor(*OWN, *LEFT, *LEFT_BY_0_1_0)
    assert forwards(monitor, machine) == {22: 40269, 3002: 42095}
    assert monitor.rows == OWN


def test_what_a_living_command_added_is_left_alone(machine: Machine) -> None:
    machine.runtime.mkdir(parents=True)
    monitor = Monitor(*OWN, *LEFT)
    with usernet.only_one(machine):
        assert forwards(monitor, machine) == {22: 40269, 3002: 42095}
    assert monitor.rows == [*OWN, *LEFT]
    assert forwards(monitor, machine) == {22: 40269, 3002: 42095}
    assert monitor.rows == OWN


def test_a_port_that_the_machine_was_given_is_its_own_whatever_its_number(
    machine: Machine,
) -> None:
    monitor = Monitor(HostForward(LOOPBACK, 30000, 22), HostForward(LOOPBACK, 8443, 9))
    assert forwards(monitor, machine) == {22: 30000, 9: 8443}
    assert len(monitor.rows) == 2


def test_two_commands_do_not_try_ports_at_once(machine: Machine) -> None:
    machine.runtime.mkdir(parents=True)
    with (
        usernet.only_one(machine),
        pytest.raises(RaveError, match="another rave command tries the ports"),
        usernet.temporary(machine, [80]),
    ):
        pass


def test_what_an_operator_added_is_kept_and_is_not_the_machine_s_own(machine: Machine) -> None:
    machine.runtime.mkdir(parents=True)
    asked = [HostForward(LOOPBACK, 31001, 9999), HostForward(LOOPBACK, 31002, 22)]
    added.write(machine, asked)
    monitor = Monitor(*OWN, *asked, *LEFT_BY_0_1_0)
    assert forwards(monitor, machine) == {22: 40269, 3002: 42095}
    assert monitor.rows == [*OWN, *asked]
