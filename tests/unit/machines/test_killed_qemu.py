"""QEMU killed before and after every order that it gets: whoever gave it says so, no disk changes
that was not to, and the next command goes on.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import (
    changes,
    leftovers,
    lifecycle,
    snapshots,
    status,
    store,
    suspend,
)
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from tests.unit.machines.crashes import every_order
from tests.unit.machines.test_killed import nothing_is_left, repaired

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd


def started(machine: Machine) -> None:
    lifecycle.start(machine, on_stage=lambda _stage: None)


def test_a_qemu_that_dies_while_it_starts_is_told_and_started_anew(
    machine: Machine, host: Host, sshd: FakeSshd
) -> None:
    disk = machine.disk.read_bytes()
    for told in every_order(host, lambda: started(machine), least=4):
        # At the last of them it had been seen to be ready.
        if told is not None:
            assert told.exit_code == ExitCode.NOT_READY
            assert "stopped at stage" in told.message
        assert status.of(machine).state == "stopped"
        nothing_is_left(machine, host)
        started(machine)
        lifecycle.kill(machine)
        assert machine.disk.read_bytes() == disk
    lifecycle.kill(machine)


def test_a_qemu_that_dies_while_it_stops_has_stopped(
    machine: Machine, host: Host, sshd: FakeSshd
) -> None:
    for _ in every_order(
        host, lambda: lifecycle.stop(machine), least=1, before=lambda: started(machine)
    ):
        assert status.of(machine).state == "stopped"
        nothing_is_left(machine, host)


def test_a_qemu_that_dies_while_its_machine_is_deleted_takes_nothing_of_it_elsewhere(
    machine: Machine, host: Host, sshd: FakeSshd, tmp_path: Path
) -> None:
    shutil.copytree(machine.directory, tmp_path / "kept")

    def before() -> None:
        if not stored_names():
            shutil.copytree(tmp_path / "kept", machine.directory)
        if processes.find(machine) is None:
            started(machine)

    for _ in every_order(
        host, lambda: lifecycle.delete("demo", force=True), least=1, before=before
    ):
        assert stored_names() == []
        assert leftovers.find(images=False) == []


def test_a_qemu_that_dies_while_it_is_suspended_left_its_memory_whole_or_not_at_all(
    machine: Machine, host: Host, sshd: FakeSshd
) -> None:
    disk = machine.disk.read_bytes()
    seen = set()

    def before() -> None:
        if processes.find(machine) is None:
            started(machine)

    for told in every_order(host, lambda: suspend.suspend(machine), least=5, before=before):
        assert told is None or told.exit_code == ExitCode.NOT_READY
        seen.add(repaired(machine))
        assert machine.disk.read_bytes() == disk
        lifecycle.kill(machine)
    assert seen == {"stopped", "suspended"}
    assert suspend.resume(machine).ports


def test_a_qemu_that_dies_while_it_reads_a_memory_leaves_it_for_the_next(
    machine: Machine, host: Host, sshd: FakeSshd
) -> None:
    seen = set()

    def before() -> None:
        if processes.find(machine) is not None:
            lifecycle.kill(machine)
        if not machine.suspended.is_dir():
            started(machine)
            suspend.suspend(machine)

    for told in every_order(host, lambda: suspend.resume(machine), least=5, before=before):
        assert told is None or told.exit_code in (ExitCode.NOT_READY, ExitCode.HOST)
        seen.add(repaired(machine))
    # Once the guest goes on its memory is of the past, as after a power cut.
    assert seen == {"stopped", "suspended"}


def test_a_qemu_that_dies_under_a_snapshot_leaves_it_whole_or_not_at_all(
    machine: Machine, host: Host, sshd: FakeSshd
) -> None:
    disk = machine.disk.read_bytes()

    def before() -> None:
        with suppress(RaveError):
            snapshots.delete(machine, "one")
        if processes.find(machine) is None:
            started(machine)

    for told in every_order(host, lambda: snapshots.create(machine, "one"), least=5, before=before):
        assert told is None or told.exit_code == ExitCode.NOT_READY
        for name in snapshots.names(machine):
            assert snapshots.load(machine, name).record.state is not None
        assert machine.disk.read_bytes() == disk
        assert repaired(machine) == "stopped"


def test_a_qemu_that_dies_while_its_disk_grows_is_grown_by_the_same_command(
    machine: Machine, host: Host, sshd: FakeSshd
) -> None:
    gib = machine.spec.disk_gib

    def before() -> None:
        if processes.find(machine) is None:
            started(machine)

    def grow() -> object:
        return changes.resize("demo", disk_gib=gib + 1)

    for told in every_order(host, grow, least=2, before=before):
        assert told is None or told.exit_code == ExitCode.NOT_READY
        assert store.load("demo").spec.disk_gib in (gib, gib + 1)
        assert grow() is not None
        assert store.load("demo").spec.disk_gib == gib + 1
        gib += 1
