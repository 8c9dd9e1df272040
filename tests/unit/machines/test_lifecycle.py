"""Whole lives against the fake QEMU and sshd: starts that succeed, alone and two at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import RaveError
from rave_cli.machines import boot, lifecycle, status, store
from rave_cli.machines.guest.readiness import NAMES, Reached
from rave_cli.machines.lifecycle import stop
from rave_cli.machines.qemu.stop import StopReport, stop_process
from tests.unit.machines.conftest import HEALTHY, TCG, Host, running_fakes
from tests.unit.machines.starting import impatient, patient, start

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from tests.unit.machines.fake_sshd import FakeSshd


__all__ = ["impatient", "patient"]


def test_a_start_goes_through_every_stage_in_order(machine: Machine, sshd: FakeSshd) -> None:
    seen: list[Reached] = []
    ready = start(machine, on_stage=seen.append)
    assert [stage.name for stage in seen] == list(NAMES)
    assert ready.stages == tuple(seen)
    assert [s.seconds for s in seen] == sorted(s.seconds for s in seen)
    assert ready.ports == {22: sshd.port, 3002: 9}
    assert ready.services == {"postgresql": 1.2, "nginx": 1.1}
    assert ready.secrets == "absent"
    assert set(sshd.logins) == {"rave"}


def test_nobody_connects_before_the_guest_says_that_its_services_run(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    host.behave(steps=[*HEALTHY[:3], {"sleep": 0.3}, HEALTHY[3]])
    connections: list[int] = []
    start(machine, on_stage=lambda _stage: connections.append(sshd.connections))
    assert connections[NAMES.index("services")] == 0


def test_a_ready_guest_is_noticed_within_300_ms(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what it sleeps by itself: how long a busy host lets it wait besides is not ours."""
    slept: list[float] = []
    noticed: list[str] = []
    real = boot._Watch.gone

    def gone(watching: boot._Watch, seconds: float) -> bool:
        there = machine.stage_file.exists() and b'"services"' in machine.stage_file.read_bytes()
        if there and "services" not in noticed:
            slept.append(seconds)
        return real(watching, seconds)

    monkeypatch.setattr(boot._Watch, "gone", gone)
    start(machine, on_stage=lambda stage: noticed.append(stage.name))
    # The report may have come in the middle of the sleep before.
    assert sum(slept) + boot.GLANCE < 0.3


def test_a_started_machine_runs_and_survives_us(machine: Machine, sshd: FakeSshd) -> None:
    ready = start(machine)
    found = status.of(machine)
    assert (found.state, found.pid, found.ports) == ("running", ready.pid, ready.ports)
    assert os.getsid(ready.pid) == ready.pid


def test_credentials_exist_only_while_qemu_starts(machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    assert not machine.credentials.exists()


def test_starting_twice_joins_the_first(machine: Machine, sshd: FakeSshd, host: Host) -> None:
    first = start(machine)
    with machine.stage_file.open("a") as reports:
        line = {"v": 1, "instance": machine.spec.instance_id, "stage": "secrets"}
        reports.write(json.dumps(line | {"uptime": 9.0, "secrets": "installed"}) + "\n")
    second = start(machine)
    assert second.pid == first.pid
    assert (first.joined, first.secrets) == (False, "absent")
    assert (second.joined, second.secrets) == (True, "installed")
    assert len(running_fakes(host.bin)) == 1


@pytest.mark.parametrize("at", NAMES)
def test_after_a_kill_at_any_stage_the_next_command_finds_the_truth(
    machine: Machine, sshd: FakeSshd, host: Host, at: str
) -> None:
    def die(stage: Reached) -> None:
        if stage.name == at:
            os.kill(os.getpid(), signal.SIGKILL)

    # Between two reports the killed command is gone before the boot goes on.
    host.behave(steps=[step for each in HEALTHY for step in (each, {"sleep": 0.1})])
    child = os.fork()
    if child == 0:
        try:
            start(machine, on_stage=die)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert status.of(machine).state in {"starting", "running"}
    (survivor,) = running_fakes(host.bin)
    assert start(machine).pid == survivor
    assert not machine.credentials.exists()
    assert stop(machine).rung == "acpi"
    lifecycle.delete("demo")
    assert running_fakes(host.bin) == []


def test_a_machine_keeps_the_port_of_its_pages_until_another_program_takes_it(
    machine: Machine, sshd: FakeSshd
) -> None:
    pages = machine.spec.pages
    assert pages is not None
    assert start(machine).machine.spec.public_origin == f"https://rave.localhost:{pages.host}"
    stop(machine)
    with socket.socket() as other:
        other.bind(("127.0.0.1", pages.host))
        other.listen()
        moved = start(machine).machine.spec
    assert moved.pages not in (None, pages)
    assert store.load(machine.name).spec == moved


def test_two_starts_at_once_begin_one_qemu(machine: Machine, sshd: FakeSshd, host: Host) -> None:
    outcomes: list[Any] = []

    def attempt() -> None:
        try:
            outcomes.append(start(machine).pid)
        except RaveError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(running_fakes(host.bin)) == 1
    pids = {outcome for outcome in outcomes if isinstance(outcome, int)}
    busy = [outcome for outcome in outcomes if isinstance(outcome, RaveError)]
    assert len(pids) == 1
    assert all("another rave command" in error.message for error in busy)


@pytest.mark.parametrize(
    ("load", "cpus", "factor"), [(0.1, 2, 1), (0.1, 1, 2), (4, 8, 2), (400, 2, 3), (400, 1, 6)]
)
def test_a_busy_host_and_a_single_cpu_get_more_time(
    load: float, cpus: int, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert lifecycle.patience(TCG, cpus) == pytest.approx(factor)
    assert lifecycle.patience(replace(TCG, loop_seconds=0.128), cpus) == pytest.approx(2 * factor)


@pytest.mark.parametrize(("load", "seconds"), [(0.1, 30), (4, 60), (400, 90)])
def test_a_guest_on_a_busy_host_gets_more_time_to_shut_down(
    machine: Machine, sshd: FakeSshd, monkeypatch: pytest.MonkeyPatch, load: float, seconds: float
) -> None:
    lifecycle.start(machine, on_stage=lambda _stage: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    given: list[float] = []

    def noted(*words: Any, patience: float, **options: Any) -> StopReport:
        given.append(patience)
        return stop_process(*words, patience=patience, **options)

    monkeypatch.setattr(lifecycle, "stop_process", noted)
    assert lifecycle.stop(machine).rung == "acpi"
    assert given == [pytest.approx(seconds)]
