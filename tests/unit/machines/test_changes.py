"""What may be changed about a machine, and that a kill at any moment leaves it whole."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import paramiko
import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import changes, lifecycle, status, store
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import ports, processes
from rave_cli.machines.spec import machines_dir
from tests.unit.machines.crashes import Crash, crashes_at_each_step
from tests.unit.machines.test_vm_commands import rave

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd

__all__ = ["rave"]


def start(machine: Machine) -> lifecycle.Ready:
    return lifecycle.start(machine, on_stage=lambda _stage: None, deadline_scale=1)


# --- protection ----------------------------------------------------------------------------------


def test_a_protected_machine_is_not_deleted_until_that_is_lifted(
    rave: Callable[..., tuple[int, str, str]], machine: Machine
) -> None:
    assert rave("vm", "protect", "demo")[:2] == (0, "demo is protected from deletion\n")
    for words in (("delete", "demo"), ("delete", "demo", "--force"), ("delete", "--all", "--yes")):
        code, _, err = rave("vm", *words)
        assert code == ExitCode.USAGE
        assert "machine demo is protected from deletion" in err
        assert "hint: rave vm unprotect demo" in err
    assert machine.disk.exists()
    assert rave("vm", "unprotect", "demo")[0] == 0
    assert rave("vm", "delete", "demo")[0] == 0


def test_a_protected_machine_starts_and_stops_as_before(machine: Machine, sshd: FakeSshd) -> None:
    changes.protect("demo", protected=True)
    assert start(store.load("demo")).machine.spec.protected
    changes.protect("demo", protected=True)
    lifecycle.stop(machine)
    assert store.load("demo").spec.protected


def test_a_record_of_before_protection_is_of_an_unprotected_machine(machine: Machine) -> None:
    place = machine.directory / store.RECORD
    document = json.loads(place.read_text())
    assert document["version"] == store.MACHINE.version
    for name in ("protected", "renamed_to"):
        del document["machine"][name]
    place.write_text(json.dumps(document | {"version": 2}))
    assert store.load("demo") == machine


# --- names ---------------------------------------------------------------------------------------


def test_everything_follows_a_new_name(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    lifecycle.stop(machine)
    before = {path.name for path in machine.directory.iterdir()}
    assert rave("vm", "rename", "demo", "web")[:2] == (0, "demo is now web\n")
    assert stored_names() == ["web"]
    web = store.load("web")
    assert replace(web.spec, name="demo") == machine.spec
    assert {path.name for path in web.directory.iterdir()} == before
    assert not machine.runtime.exists()
    assert web.runtime != machine.runtime
    keys = paramiko.HostKeys(str(web.known_hosts))
    assert keys.lookup("rave-web") is not None
    assert keys.lookup("rave-demo") is None
    # Its login works: the pinned key goes by the new name.
    assert start(web).ports[22] == sshd.port
    assert status.of(web).state == "running"


def test_only_a_stopped_machine_is_renamed(machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    with pytest.raises(RaveError, match="is running; only a stopped one can be renamed") as caught:
        changes.rename("demo", "web")
    assert (caught.value.exit_code, caught.value.hint) == (ExitCode.USAGE, "rave vm stop demo")
    assert status.of(store.load("demo")).state == "running"
    assert ports.ssh(machine) == sshd.port


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("web", "machine web exists already"),
        ("demo", "is called demo"),
        ("../x", "cannot be a machine's name"),
    ],
)
def test_a_name_that_cannot_be_given_changes_nothing(
    machine: Machine, plan: Plan, image: Image, new: str, why: str
) -> None:
    store.create(store.new_spec(plan, image, name="web", mode="safe"))
    with pytest.raises(RaveError, match=why) as caught:
        changes.rename("demo", new)
    assert caught.value.exit_code == ExitCode.USAGE
    assert store.load("demo") == machine
    assert stored_names() == ["demo", "web"]


def test_a_name_that_makes_a_socket_s_path_too_long_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"/tmp/{'x' * 60}")
    with pytest.raises(RaveError, match="a socket's path may have"):
        changes.rename("demo", "n" * 63)
    assert stored_names() == ["demo"]


def test_a_machine_that_is_renamed_before_its_start_is_not_started_by_its_old_name(
    machine: Machine,
) -> None:
    changes.rename("demo", "web")
    with pytest.raises(RaveError, match=r"no machine 'demo' \(there are: web\)"):
        start(machine)


def test_two_commands_at_one_machine_exclude_each_other(machine: Machine) -> None:
    for name in ("demo", "web"):
        with (
            store.locked(name),
            pytest.raises(RaveError, match=f"another rave command is .* machine {name}"),
        ):
            changes.rename("demo", "web")
    with store.locked("demo"), pytest.raises(RaveError, match="another rave command"):
        changes.protect("demo", protected=True)
    assert store.load("demo") == machine


@crashes_at_each_step(24)
def test_a_rename_that_is_killed_at_any_step_has_happened_or_not(
    machine: Machine, sshd: FakeSshd, crash: Crash
) -> None:
    killed = crash(lambda: changes.rename("demo", "web"))
    (name,) = stored_names()
    there = store.load(name)
    assert there.name == name
    assert replace(there.spec, name="demo", renamed_to=None) == machine.spec
    assert killed or name == "web"
    # Whichever it is called, it starts and lets in whoever holds its key.
    assert start(there).ports[22] == sshd.port
    lifecycle.stop(there)
    # And the next command goes on from there.
    changes.rename(name, "last")
    assert stored_names() == ["last"]
    assert [p.name for p in machines_dir().iterdir() if p.name.startswith((".new", ".old"))] == []
    assert processes.find(there) is None
    lifecycle.delete("last")


@crashes_at_each_step(18)
def test_a_deletion_that_is_killed_at_any_step_has_happened_or_not(
    machine: Machine, plan: Plan, image: Image, crash: Crash
) -> None:
    crash(lambda: lifecycle.delete("demo"))
    if stored_names():
        assert store.load("demo") == machine
        lifecycle.delete("demo")
    store.create(store.new_spec(plan, image, name="demo", mode="safe"))
    assert [p.name for p in machines_dir().iterdir() if p.name.startswith((".new", ".old"))] == []


@crashes_at_each_step(54)
def test_a_creation_that_is_killed_at_any_step_has_happened_or_not(
    host: object, plan: Plan, image: Image, crash: Crash
) -> None:
    spec = store.new_spec(plan, image, name="demo", mode="safe")
    crash(lambda: store.create(spec))
    if not stored_names():
        store.create(spec)
    assert store.load("demo").spec == spec
    assert [p.name for p in machines_dir().iterdir() if p.name.startswith((".new", ".old"))] == []


# --- sizes ---------------------------------------------------------------------------------------


def test_a_stopped_machine_is_given_other_sizes(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, sshd: FakeSshd
) -> None:
    code, out, err = rave(
        "vm", "set", "demo", "--memory", "1024", "--cpus", "1", "--disk", "40", "--json"
    )
    assert code == 0
    assert json.loads(out) == {
        "name": "demo", "memoryMiB": 1024, "cpus": 1, "diskGiB": 40,
        "fileSystem": "at the next start",
    }  # fmt: skip
    assert "grows at its next start" in err
    # What the fake qemu-img was asked for.
    assert machine.data_disk.read_bytes().endswith(b"overlay of 40G")
    assert b"40G" not in machine.disk.read_bytes()
    ready = start(store.load("demo"))
    argv = processes.PROC.joinpath(str(ready.pid), "cmdline").read_text().split("\0")
    assert argv[argv.index("-m") + 1] == "1024"
    assert argv[argv.index("-smp") + 1] == "1"


def test_the_disk_of_a_running_machine_grows_and_its_file_system_with_it(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    asked: list[str] = []
    sshd.handler = lambda command, _data: (asked.append(command) or 0, b"", b"")  # type: ignore[func-returns-value]
    document = json.loads(rave("vm", "set", "demo", "--disk", "41", "--json")[1])
    assert (document["diskGiB"], document["fileSystem"]) == (41, "grown")
    resized = str({"node-name": "data0", "size": 41 << 30})
    assert machine.data_disk.read_bytes().endswith(resized.encode())
    assert asked == ["sudo -n -- systemctl restart rave-grow.service"]
    sshd.handler = lambda _command, _data: (5, b"", b"Unit rave-grow.service not found.")
    document = json.loads(rave("vm", "set", "demo", "--disk", "42", "--json")[1])
    assert document["fileSystem"] == "at the next start"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "Give --memory, --cpus or --disk"),
        (("--disk", "1"), "a disk never shrinks"),
        (("--memory", "10"), "--memory 10 is too little: at least 256"),
        (("--cpus", "0"), "--cpus 0 is too little: at least 1"),
        (("--disk", "0"), "--disk 0 is too little: at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, words: tuple[str, ...], why: str
) -> None:
    code, _, err = rave("vm", "set", "demo", *words)
    assert code == ExitCode.USAGE
    assert why in err
    assert store.load("demo") == machine


def test_memory_and_cpus_of_a_running_machine_stay(
    rave: Callable[..., tuple[int, str, str]], machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    for words in (("--memory", "1024"), ("--cpus", "3", "--disk", "90")):
        code, _, err = rave("vm", "set", "demo", *words)
        assert code == ExitCode.USAGE
        assert "is running; only a stopped one can be given other memory or CPUs" in err
        assert "hint: rave vm stop demo" in err
    assert store.load("demo").spec == machine.spec


def test_a_disk_that_cannot_be_grown_leaves_the_record_as_it_was(
    machine: Machine, host: Host
) -> None:
    host.break_qemu_img("qemu-img: Could not resize image: No space left on device")
    with pytest.raises(RaveError, match=r"cannot be grown: .*No space left") as caught:
        changes.resize("demo", disk_gib=99)
    assert caught.value.exit_code == ExitCode.HOST
    assert store.load("demo") == machine


@crashes_at_each_step(8)
def test_a_change_of_sizes_that_is_killed_at_any_step_is_completed_by_the_next(
    machine: Machine, sshd: FakeSshd, crash: Crash
) -> None:
    killed = crash(lambda: changes.resize("demo", memory_mib=1024, disk_gib=50))
    spec = store.load("demo").spec
    assert spec in (machine.spec, replace(machine.spec, memory_mib=1024, disk_gib=50))
    assert killed or spec.disk_gib == 50
    done = changes.resize("demo", memory_mib=1024, disk_gib=50)
    assert (done.machine.spec.memory_mib, done.machine.spec.disk_gib) == (1024, 50)
    start(done.machine)
    lifecycle.stop(done.machine)
