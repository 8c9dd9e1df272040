"""Several machines with one command: one that fails does not keep it from the others."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import boot, changes, leftovers, lifecycle, preflight, status, store
from rave_cli.machines.guest import readiness
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import credentials
from rave_cli.machines.qemu.argv import qemu_argv
from tests.unit.machines.conftest import TCG, running_fakes
from tests.unit.machines.fake_sshd import FakeSshd
from tests.unit.machines.test_vm_commands import rave
from tests.waiting import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host

    Rave = Callable[..., tuple[int, str, str]]

__all__ = ["rave"]


@pytest.fixture
def two(machine: Machine, plan: Plan, image: Image) -> None:
    """Machines `demo` and `web`; only `demo` has an sshd."""
    store.create(store.new_spec(plan, image, name="web", mode="safe"))


@pytest.mark.usefixtures("two")
def test_one_that_fails_does_not_keep_it_from_the_others(rave: Rave, sshd: FakeSshd) -> None:
    (store.load("demo").directory / "machine.json").write_text("{")
    code, out, err = rave("vm", "protect", "--all")
    assert (code, out) == (ExitCode.HOST, "web is protected from deletion\n")
    assert "the record of a machine" in err
    assert store.load("web").spec.protected


@pytest.mark.usefixtures("two")
def test_with_json_there_is_one_list_and_the_exit_code_is_the_worst(rave: Rave) -> None:
    code, out, _ = rave("vm", "unprotect", "web", "nobody", "demo", "--json")
    first, second, third = json.loads(out)
    assert code == ExitCode.USAGE
    assert first == {"name": "web", "protected": False}
    assert (second["name"], second["exitCode"]) == ("nobody", 2)
    assert third["name"] == "demo"


@pytest.mark.usefixtures("two", "sshd")
def test_all_are_stopped_and_restarted(rave: Rave) -> None:
    for name in ("demo", "web"):
        code = rave("vm", "start", name)[0]
        assert code == (0 if name == "demo" else ExitCode.NOT_READY)
    # The fake sshd is only one machine's: the other is refused for its host key, and goes down.
    code, out, err = rave("vm", "restart", "--all", "--json")
    documents = json.loads(out)
    assert code == ExitCode.NOT_READY
    assert (documents[0]["name"], documents[0]["stopped"]["rung"]) == ("demo", "acpi")
    assert "another host key" in documents[1]["error"]
    assert "hint:" in err
    code, out, _ = rave("vm", "stop", "--all")
    assert (code, out.splitlines()[1]) == (0, "web was not running")
    assert out.startswith("demo stopped by acpi")


@pytest.mark.usefixtures("two")
def test_a_name_is_meant_once_and_either_names_or_all(rave: Rave) -> None:
    assert rave("vm", "stop", "demo", "demo")[:2] == (0, "demo was not running\n")
    for words in ((), ("demo", "--all")):
        code, _, err = rave("vm", "stop", *words)
        assert code == ExitCode.USAGE
        assert "several, or --all" in err


@pytest.mark.usefixtures("two")
def test_deleting_all_needs_somebody_who_agrees(rave: Rave) -> None:
    code, _, err = rave("vm", "delete", "--all")
    assert code == ExitCode.USAGE
    assert "nobody can be asked here: Delete demo, web?" in err
    assert "--yes" in err
    assert stored_names() == ["demo", "web"]
    code, out, _ = rave("vm", "delete", "--all", "--yes", "--json")
    assert (code, [entry["deleted"] for entry in json.loads(out)]) == (0, [True, True])
    assert stored_names() == []


def test_all_of_none_is_nothing(rave: Rave) -> None:
    code, out, err = rave("vm", "stop", "--all", "--json")
    assert (code, json.loads(out)) == (0, [])
    assert "there are no machines" in err


def test_a_machine_that_does_not_run_is_only_started(
    rave: Rave, machine: Machine, sshd: FakeSshd
) -> None:
    code, out, _ = rave("vm", "restart", "demo", "--json")
    document = json.loads(out)
    assert (code, document["stopped"]["rung"]) == (0, "not-running")
    first = document["pid"]
    document = json.loads(rave("vm", "restart", "demo", "--json")[1])
    assert document["stopped"]["rung"] == "acpi"
    assert document["pid"] != first
    lifecycle.kill(machine)


# --- at once -------------------------------------------------------------------------------------


def test_twenty_machines_made_at_once_are_twenty_machines(
    machine: Machine, plan: Plan, image: Image
) -> None:
    """Processes of their own, as twenty commands are; four of them want the same name."""
    names = [f"many-{number}" for number in range(16)] + ["same"] * 4
    specs = [store.new_spec(plan, image, name=name, mode="safe") for name in names]
    pids = [forked(partial(store.create, spec)) for spec in specs]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes[:16] == [0] * 16
    # One made it; the others were told that it is there, or being made.
    assert codes[16:].count(0) == 1
    assert set(codes[16:]) <= {0, ExitCode.USAGE, ExitCode.HOST}
    machines = [store.load(name) for name in stored_names()]
    assert len(machines) == 18
    for value in ("uuid", "instance_id"):
        assert len({getattr(found.spec, value) for found in machines}) == 18
    assert len({found.runtime for found in machines}) == 18
    assert len({found.host_key.read_bytes() for found in machines}) == 18
    assert leftovers.find(images=False) == []


def test_twenty_machines_started_at_once_all_run(
    host: Host, plan: Plan, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with an sshd of its own, started by a process of its own."""
    machines = [
        store.create(store.new_spec(plan, image, name=f"many-{n}", mode="safe", memory_mib=256))
        for n in range(20)
    ]
    monkeypatch.setattr(preflight, "available_mib", lambda: None)
    monkeypatch.setattr(
        readiness, "STAGES", tuple(replace(stage, seconds=NEVER) for stage in readiness.STAGES)
    )
    with ExitStack() as stack:
        ports: dict[str, dict[int, int]] = {}
        for machine in machines:
            public = machine.login_key.with_suffix(".pub").read_text().split()[1]
            sshd = stack.enter_context(FakeSshd(machine.host_key.read_bytes(), public))
            ports[machine.spec.instance_id] = {22: sshd.port, 3002: 9}
        host.behave(each=ports)
        pids = [
            forked(partial(lifecycle.start, machine, on_stage=lambda _stage: None))
            for machine in machines
        ]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert codes == [0] * 20
        found = status.of_all()
        assert [entry.state for entry in found] == ["running"] * 20
        assert len({entry.document["pid"] for entry in found}) == 20
        assert len(running_fakes(host.bin)) == 20
        for machine in machines:
            assert lifecycle.stop(machine).rung == "acpi"
    assert running_fakes(host.bin) == []


def test_of_two_started_at_once_with_memory_for_one_only_one_starts(
    host: Host, plan: Plan, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has taken its memory when the other asks what there is."""
    monkeypatch.setattr(preflight, "available_mib", lambda: 1000)
    machines = [
        store.create(store.new_spec(plan, image, name=name, mode="safe", memory_mib=256))
        for name in ("one", "two")
    ]
    with ExitStack() as stack:
        for machine in machines:
            machine.runtime.mkdir(parents=True)
            stack.enter_context(credentials.written(machine))
        pids = [
            forked(partial(boot.spawn, machine, qemu_argv(machine, TCG))) for machine in machines
        ]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert sorted(codes) == [0, ExitCode.HOST]
        assert len(running_fakes(host.bin)) == 1
        for machine in machines:
            lifecycle.kill(machine)


@pytest.mark.usefixtures("two")
def test_of_two_commands_at_one_machine_one_does_it_and_the_other_is_told(
    machine: Machine,
) -> None:
    """Rename, change, protect and delete at the same moment, in processes of their own."""
    for _ in range(5):
        before = set(stored_names())
        codes = [
            os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            for pid in [
                forked(lambda: changes.rename("web", "other")),
                forked(lambda: changes.protect("web", protected=True)),
                forked(lambda: changes.resize("web", memory_mib=1024)),
                forked(lambda: changes.rename("web", "third")),
            ]
        ]
        assert set(codes) <= {0, ExitCode.USAGE, ExitCode.HOST}
        now = set(stored_names())
        assert len(now) == len(before)
        (name,) = now - {"demo"}
        assert store.load(name).name == name
        if name != "web":
            changes.rename(name, "web")


def forked(do: Callable[[], object]) -> int:
    """Do something in a process of its own; returns its pid. It ends with the exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            do()
            code = 0
        except RaveError as error:
            code = int(error.exit_code)
        finally:
            os._exit(code)
    return pid


@pytest.mark.usefixtures("two")
def test_several_are_suspended_and_go_on_and_one_that_does_not_run_is_named(
    rave: Rave, sshd: FakeSshd
) -> None:
    lifecycle.start(store.load("demo"), on_stage=lambda _stage: None)
    code, out, err = rave("vm", "suspend", "--all")
    assert code == ExitCode.NOT_READY
    assert "demo suspended after" in out
    assert "machine web is not running" in err
    assert status.of(store.load("demo")).state == "suspended"
    code, out, err = rave("vm", "resume", "demo", "web", "--json")
    first, second = json.loads(out)
    assert (first["name"], first["state"]) == ("demo", "running")
    assert (second["name"], second["exitCode"]) == ("web", 2)
    assert code == ExitCode.USAGE
