"""Clones: a copy of a disk, and nothing else of what makes a machine itself."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import cloning, lifecycle, snapshots, store, suspend
from rave_cli.machines.names import stored_names
from rave_cli.machines.spec import Forward
from tests.unit.machines.crashes import crashes_at_each_step

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.crashes import Crash
    from tests.unit.machines.fake_sshd import FakeSshd


def own(machine: Machine) -> list[object]:
    """Return what makes a machine itself."""
    spec = machine.spec
    keys = (machine.host_key, machine.login_key, machine.age_key, machine.known_hosts)
    ids = (spec.uuid, spec.instance_id, spec.mac, spec.machine_id)
    return [*ids, *(key.read_bytes() for key in keys)]


def test_a_clone_has_the_disk_and_an_identity_of_its_own(machine: Machine) -> None:
    machine.disk.write_bytes(b"data")
    made = cloning.clone(machine, "second")
    assert made.disk.read_bytes() == b"data"
    assert made.disk.stat().st_ino != machine.disk.stat().st_ino
    assert made.disk.stat().st_mode & 0o777 == 0o600
    assert not set(own(made)) & set(own(machine))
    assert store.load("second") == made


def test_it_keeps_what_is_no_ones_own(machine: Machine) -> None:
    fixed = replace(machine.spec, forwards=(Forward(8443, 3002),), protected=True)
    store.save(replace(machine, spec=fixed))
    made = cloning.clone(machine, "second").spec
    assert (made.memory_mib, made.image, made.disk_gib) == (
        fixed.memory_mib, fixed.image, fixed.disk_gib,
    )  # fmt: skip
    # Both may run.
    assert made.forwards == (Forward(0, 3002),)
    assert not made.protected


def test_one_that_runs_is_refused_with_the_way(machine: Machine, sshd: FakeSshd) -> None:
    lifecycle.start(machine, on_stage=lambda _stage: None)
    with pytest.raises(RaveError, match="demo is running") as caught:
        cloning.clone(machine, "second")
    assert caught.value.exit_code == ExitCode.USAGE
    assert "rave vm snapshot create demo NOW" in str(caught.value.hint)
    suspend.suspend(machine)
    with pytest.raises(RaveError, match="demo is suspended"):
        cloning.clone(machine, "second")
    assert stored_names() == ["demo"]


def test_a_snapshot_of_it_is_cloned_while_it_runs(machine: Machine, sshd: FakeSshd) -> None:
    machine.disk.write_bytes(b"then")
    lifecycle.start(machine, on_stage=lambda _stage: None)
    snapshots.create(machine, "now")
    machine.disk.write_bytes(b"later")
    assert cloning.clone(machine, "second", snapshot="now").disk.read_bytes() == b"then"


def test_a_name_that_is_taken_or_none_is_refused(machine: Machine) -> None:
    for name in ("demo", "A b"):
        with pytest.raises(RaveError) as caught:
            cloning.clone(machine, name)
        assert caught.value.exit_code == ExitCode.USAGE
    assert stored_names() == ["demo"]


def test_a_disk_without_room_makes_nothing(
    machine: Machine, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.statvfs(machine.directory)
    full = os.statvfs_result((*found[:4], 0, *found[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _place: full)
    with pytest.raises(RaveError, match="there are 0 MiB"):
        cloning.clone(machine, "second")
    assert stored_names() == ["demo"]


@crashes_at_each_step(24)
def test_a_command_that_is_killed_leaves_a_clone_or_none(machine: Machine, crash: Crash) -> None:
    machine.disk.write_bytes(b"data")
    crash(lambda: cloning.clone(machine, "second"))
    assert machine.disk.read_bytes() == b"data"
    if "second" in stored_names():
        assert store.load("second").disk.read_bytes() == b"data"
    else:
        assert cloning.clone(machine, "second").disk.read_bytes() == b"data"


def test_the_command_says_what_is_next(machine: Machine) -> None:
    done = CliRunner().invoke(cli, ["vm", "clone", "demo", "second"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "machine second made with a copy of the disk of demo" in done.output
    assert "rave secrets install second" in done.output
