"""Names, ports and sizes: what is accepted and what each refusal says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.spec import (
    Forward,
    check_name,
    choose_forwards,
    choose_resources,
    locate,
    machines_dir,
    parse_forward,
)

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan

LABEL = re.compile(r"\A[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


@given(st.text(max_size=70) | st.from_regex(LABEL))
@example("../x")
@example("a/b")
@example(".")
@example("a\n")
@example("-a")
@example("A")
@example("")
@example("a" * 64)
@example("a" * 63)
def test_a_name_is_a_dns_label_or_refused(name: str) -> None:
    if LABEL.match(name):
        assert check_name(name) == name
    else:
        with pytest.raises(RaveError, match="cannot be a machine's name") as caught:
            check_name(name)
        assert caught.value.exit_code == ExitCode.USAGE


@given(st.from_regex(LABEL))
def test_no_name_leaves_the_directory_of_machines(name: str) -> None:
    assert (machines_dir() / check_name(name)).parent == machines_dir()


@given(st.integers(0, 65535), st.integers(1, 65535))
def test_a_forward_reads_as_it_is_written(host: int, guest: int) -> None:
    assert parse_forward(str(Forward(host, guest))) == Forward(host, guest)


@pytest.mark.parametrize(
    "text",
    [
        "", "80", "80:", ":80", "80:0", "65536:22", "80:65536", "a:b", "80:22:1", "-1:22",
        "\uff18\u0030:22", "127.0.0.1:80:22", " 80:22", "80:22\n",
    ],
)  # fmt: skip
def test_anything_else_is_no_forward(text: str) -> None:
    with pytest.raises(RaveError, match="is not HOST:GUEST") as caught:
        parse_forward(text)
    assert caught.value.exit_code == ExitCode.USAGE


def test_every_exposed_port_is_forwarded_to_any_free_one(plan: Plan) -> None:
    assert choose_forwards(plan, []) == (Forward(0, 22), Forward(0, 3002))


def test_the_user_fixes_a_port(plan: Plan) -> None:
    assert choose_forwards(plan, [Forward(8443, 3002)]) == (Forward(0, 22), Forward(8443, 3002))


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ([Forward(9090, 9090)], "firewall closes port 9090"),
        ([Forward(8443, 3002), Forward(8444, 3002)], "in conflict"),
        ([Forward(8443, 3002), Forward(8443, 22)], "in conflict"),
    ],
)
def test_ports_that_cannot_work_are_refused(plan: Plan, asked: list[Forward], match: str) -> None:
    with pytest.raises(RaveError, match=match) as caught:
        choose_forwards(plan, asked)
    assert caught.value.exit_code == ExitCode.USAGE


def test_any_free_port_may_be_asked_for_twice(plan: Plan) -> None:
    assert choose_forwards(plan, [Forward(0, 22), Forward(0, 3002)])


def test_resources_come_from_the_plan_of_the_mode(plan: Plan) -> None:
    assert choose_resources(plan, "safe") == (2048, 2, 12)
    assert choose_resources(plan, "full") == (4096, 2, 12)
    assert choose_resources(plan, "safe", memory_mib=3000, cpus=1, disk_gib=20) == (3000, 1, 20)


@pytest.mark.parametrize("change", [{"memory_mib": 64}, {"cpus": 0}, {"disk_gib": -1}])
def test_sizes_no_machine_can_run_with_are_refused(plan: Plan, change: dict[str, int]) -> None:
    with pytest.raises(RaveError, match="is too little") as caught:
        choose_resources(plan, "safe", **change)
    assert caught.value.exit_code == ExitCode.USAGE


def test_every_file_of_a_machine_is_in_one_of_its_two_directories(machine: Machine) -> None:
    assert locate(machine.spec) == machine
    own = (machine.disk, machine.host_key, machine.login_key, machine.age_key, machine.known_hosts,
           machine.console_log, machine.qemu_log, machine.stage_file)  # fmt: skip
    assert all(path.is_relative_to(machine.directory) for path in own)
    passing = (machine.qmp_socket, machine.event_socket, machine.console_pipe, machine.stage_pipe,
               machine.console, machine.console_keys,
               machine.qemu_pipe, machine.credentials)  # fmt: skip
    assert all(path.is_relative_to(machine.runtime) for path in passing)
