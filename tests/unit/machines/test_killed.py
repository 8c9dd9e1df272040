"""rave killed at every line of suspending, resuming, taking and restoring a snapshot, and at every
step of starting, stopping and of what else changes a machine.

Each time the machine is in a state that is told, nothing of its memory is lost that was not to be,
and the next command repairs it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.machines import (
    cloning,
    leftovers,
    lifecycle,
    saved,
    snapshots,
    status,
    store,
    suspend,
)
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import memory, processes
from rave_cli.machines.qemu.qmp import Qmp
from tests import kills
from tests.disks import labelled
from tests.unit.machines.conftest import running_fakes
from tests.unit.machines.crashes import every_step
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd

WATCHED = {module.__file__ for module in (suspend, saved, snapshots, memory)}


def repaired(machine: Machine) -> str:
    """Let the machine go on as its status tells, and return what that was."""
    found = status.of(machine)
    if found.state == "suspended":
        assert found.detail == "go on: rave vm resume demo"
        suspend.resume(machine)
    elif found.state != "running":
        lifecycle.start(machine, on_stage=lambda _stage: None)
    with Qmp.connect(machine.qmp_socket, timeout=CEILING) as monitor:
        assert monitor.execute("query-status", timeout=CEILING)["running"]
    assert not machine.suspended.exists()
    return found.state


@pytest.fixture
def running(machine: Machine, sshd: FakeSshd) -> Machine:
    """A machine that runs."""
    lifecycle.start(machine, on_stage=lambda _stage: None)
    return machine


def processes_of(machine: Machine) -> int:
    argvs = [processes._argv(entry) for entry in processes.PROC.iterdir() if entry.name.isdigit()]
    return sum(machine.spec.uuid in argv for argv in argvs)


def every_point(before: Callable[[], object], call: Callable[[], object]) -> Any:
    """Yield after each kill; at least ten of them."""
    count, line = 0, 0
    while True:
        before()
        if not kills.at_line(line, call, WATCHED):
            break
        yield line
        count, line = count + 1, line + kills.STRIDE
    assert count >= 50 // kills.STRIDE


def test_a_suspend_that_is_killed_loses_nothing(running: Machine) -> None:
    seen = set()
    for _ in every_point(lambda: None, lambda: suspend.suspend(running)):
        seen.add(repaired(running))
        assert processes_of(running) == 1
    # How many lines it takes until it goes on depends on how busy the host is.
    assert "suspended" in seen
    assert seen <= {"running", "paused", "suspended"}


def test_a_resume_that_is_killed_loses_nothing(running: Machine) -> None:
    seen = set()

    def before() -> None:
        if not running.suspended.exists():
            suspend.suspend(running)

    for _ in every_point(before, lambda: suspend.resume(running)):
        seen.add(repaired(running))
        assert processes_of(running) == 1
    # How many lines it takes until it goes on depends on how busy the host is.
    assert "suspended" in seen
    assert seen <= {"running", "paused", "suspended"}


def test_a_snapshot_that_is_killed_is_there_whole_or_not_at_all(running: Machine) -> None:
    def before() -> None:
        if snapshots.names(running):
            snapshots.delete(running, "one")

    for _ in every_point(before, lambda: snapshots.create(running, "one")):
        assert repaired(running) in ("running", "paused")
        for name in snapshots.names(running):
            assert snapshots.load(running, name).record.state is not None


def test_a_restore_that_is_killed_can_be_done_again(running: Machine) -> None:
    snapshots.create(running, "one")
    then = [disk.read_bytes() for disk in running.disks]
    lifecycle.stop(running)
    changed = [b"changed", labelled(running.spec.machine_id)]

    def disks() -> list[bytes]:
        return [disk.read_bytes() for disk in running.disks]

    def before() -> None:
        for disk, data in zip(running.disks, changed, strict=True):
            disk.write_bytes(data)

    for _ in every_point(before, lambda: snapshots.restore(running, "one")):
        assert disks() in (changed, then) or running.half_restored.exists()
        assert status.of(running).state in ("stopped", "suspended")
        if running.suspended.exists():
            assert disks() == then, "a memory belongs to its own disks"
        snapshots.restore(running, "one")
        assert (status.of(running).state, disks()) == ("suspended", then)
        assert not running.half_restored.exists()
        suspend.give_up(running)


# --- starting, stopping, and what is done to files -----------------------------------------------


def keepers(machine: Machine) -> list[str]:
    """Return the command lines of what keeps the logs of a machine."""
    argvs = [processes._argv(entry) for entry in processes.PROC.iterdir() if entry.name.isdigit()]
    return [
        " ".join(argv)
        for argv in argvs
        if any("logkeeper" in word for word in argv)
        and any(str(machine.directory) in word for word in argv)
    ]


def nothing_is_left(machine: Machine, host: Host) -> None:
    """No process, no credential and no lock of a stopped machine is left."""
    assert running_fakes(host.bin) == []
    until(lambda: not keepers(machine))
    assert not machine.credentials.exists()
    with store.locked(machine.name):
        pass


def test_a_start_that_is_killed_is_taken_up_by_the_next(
    machine: Machine, sshd: FakeSshd, host: Host
) -> None:
    disk = machine.disk.read_bytes()

    def start() -> object:
        return lifecycle.start(machine, on_stage=lambda _stage: None)

    for _ in every_step(start, least=20):
        assert status.of(machine).state in ("stopped", "starting", "running")
        if processes.find(machine) is not None:
            # The fake begins to play when it is first spoken to.
            until(lambda: status.of(machine).ports is not None)
        start()
        assert status.of(machine).state == "running"
        assert processes_of(machine) == 1
        assert not machine.credentials.exists()
        assert lifecycle.stop(machine).rung == "acpi"
        nothing_is_left(machine, host)
        assert machine.disk.read_bytes() == disk
    lifecycle.stop(machine)


def test_a_stop_that_is_killed_is_done_by_the_next(running: Machine, host: Host) -> None:
    def before() -> None:
        lifecycle.start(running, on_stage=lambda _stage: None)

    for _ in every_step(lambda: lifecycle.stop(running), least=1, before=before):
        assert status.of(running).state in ("stopped", "running", "stopping")
        lifecycle.stop(running)
        assert status.of(running).state == "stopped"
        nothing_is_left(running, host)


def test_a_snapshot_whose_deletion_is_killed_is_there_whole_or_not_at_all(running: Machine) -> None:
    def before() -> None:
        if not snapshots.names(running):
            snapshots.create(running, "one")

    for _ in every_step(lambda: snapshots.delete(running, "one"), least=3, before=before):
        for name in snapshots.names(running):
            assert snapshots.load(running, name).record.state is not None
        # Whatever was left of it goes with the next.
        snapshots.create(running, "two")
        snapshots.delete(running, "two")
        assert [entry.name for entry in snapshots.folder(running).iterdir()] in ([], ["one"])


def test_a_running_machine_whose_deletion_is_killed_is_deleted_by_the_next(
    running: Machine, host: Host, tmp_path: Path
) -> None:
    shutil.copytree(running.directory, tmp_path / "kept")

    def before() -> None:
        if not stored_names():
            shutil.copytree(tmp_path / "kept", running.directory)
        lifecycle.start(running, on_stage=lambda _stage: None)

    for _ in every_step(lambda: lifecycle.delete("demo", force=True), least=3, before=before):
        if stored_names():
            assert status.of(store.load("demo")).state in ("stopped", "running", "stopping")
            lifecycle.delete("demo", force=True)
        nothing_is_left(running, host)
        for left in leftovers.find(images=False):
            leftovers.remove(left)
        assert leftovers.find(images=False) == []


def test_a_clone_of_a_snapshot_that_is_killed_leaves_a_clone_or_none(running: Machine) -> None:
    snapshots.create(running, "one")
    disks = [disk.read_bytes() for disk in running.disks]

    def clone() -> object:
        return cloning.clone(running, "second", snapshot="one")

    def before() -> None:
        if "second" in stored_names():
            lifecycle.delete("second")

    for _ in every_step(clone, least=20, before=before):
        assert repaired(running) == "running"
        assert snapshots.load(running, "one").record.state is not None
        if "second" not in stored_names():
            clone()
        assert [disk.read_bytes() for disk in store.load("second").disks] == disks
