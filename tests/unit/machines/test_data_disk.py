"""A machine's second disk: made with it, its own alone, and what outlives its system."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import cloning, disks, lifecycle, saved, snapshots, status, store, suspend
from rave_cli.machines.qemu import processes
from tests.disks import labelled, qcow2
from tests.unit.machines.crashes import crashes_at_each_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.images.manifest import Image
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.crashes import Crash
    from tests.unit.machines.fake_sshd import FakeSshd

OTHER = "0" * 31 + "1"


def start(machine: Machine, *, fresh_system: bool = False) -> Ready:
    return lifecycle.start(machine, on_stage=lambda _stage: None, fresh_system=fresh_system)


@pytest.fixture
def without(host: Host, plan: Plan, image: Image) -> Machine:
    """A machine of an image from before data disks."""
    older = replace(image, data=None)
    return store.create(store.new_spec(plan, older, name="older", mode="safe"))


def test_a_machine_begins_with_a_copy_of_the_images_data(machine: Machine, image: Image) -> None:
    assert image.data is not None
    assert machine.data_disk.read_bytes().startswith(image.data.read_bytes())
    assert machine.data_disk.stat().st_mode & 0o777 == 0o600
    assert machine.disks == (machine.disk, machine.data_disk)


def test_it_is_as_large_as_asked_for_and_the_system_as_its_image(
    host: Host, plan: Plan, image: Image
) -> None:
    spec = store.new_spec(plan, image, name="demo", mode="safe", disk_gib=7)
    made = store.create(spec)
    # What the fake qemu-img was asked for.
    assert made.data_disk.read_bytes().endswith(b"overlay of 7G")
    assert made.disk.read_bytes().endswith(f"overlay of {1 << 30}".encode())
    exact = store.create(replace(spec, name="exact", uuid=OTHER, disk_gib=1))
    assert image.data is not None
    assert exact.data_disk.read_bytes() == image.data.read_bytes()
    with pytest.raises(RaveError, match="too little"):
        store.create(replace(spec, name="small", disk_gib=0))


def test_the_data_disk_of_another_machine_is_refused_before_anything_runs(
    machine: Machine, sshd: FakeSshd
) -> None:
    machine.data_disk.write_bytes(labelled(OTHER))
    with pytest.raises(RaveError, match="is the data disk of another machine") as caught:
        start(machine)
    assert caught.value.exit_code == ExitCode.HOST
    assert OTHER in caught.value.message
    assert processes.find(machine) is None
    assert machine.data_disk.read_bytes() == labelled(OTHER)
    machine.data_disk.write_bytes(labelled(machine.spec.machine_id))
    start(machine)


def test_a_data_disk_that_is_gone_is_named(machine: Machine, sshd: FakeSshd) -> None:
    machine.data_disk.unlink()
    with pytest.raises(RaveError, match=r"is gone \(.*data\.qcow2\)"):
        start(machine)


# --- a fresh system ------------------------------------------------------------------------------


def test_a_fresh_system_has_nothing_of_the_old_and_all_of_the_data(
    machine: Machine, sshd: FakeSshd
) -> None:
    machine.disk.write_bytes(b"what was installed by hand")
    machine.data_disk.write_bytes(labelled(machine.spec.machine_id))
    start(machine, fresh_system=True)
    assert machine.disk.read_bytes().endswith(f"overlay of {1 << 30}".encode())
    assert str(machine.spec.image.qcow2).encode() in machine.disk.read_bytes()
    assert machine.data_disk.read_bytes() == labelled(machine.spec.machine_id)


def test_a_machine_that_runs_or_is_suspended_keeps_its_system(
    machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    disk = machine.disk.read_bytes()
    for hint in ("rave vm stop demo", "rave vm resume demo"):
        with pytest.raises(RaveError) as caught:
            start(machine, fresh_system=True)
        assert (caught.value.exit_code, caught.value.hint) == (ExitCode.USAGE, hint)
        assert machine.disk.read_bytes() == disk
        if processes.find(machine) is not None:
            suspend.suspend(machine)


def test_a_system_is_not_given_up_beside_data_that_do_not_fit(machine: Machine) -> None:
    machine.disk.write_bytes(b"the system")
    machine.data_disk.write_bytes(labelled(OTHER))
    with pytest.raises(RaveError, match="another machine"):
        start(machine, fresh_system=True)
    assert machine.disk.read_bytes() == b"the system"


@crashes_at_each_step(6)
def test_a_killed_command_leaves_the_old_system_or_the_new_and_the_data(
    machine: Machine, crash: Crash
) -> None:
    machine.disk.write_bytes(b"the old system")
    data = machine.data_disk.read_bytes()

    def renew() -> None:
        with store.locked("demo"):
            disks.renew_system(machine)

    crash(renew)
    old = machine.disk.read_bytes() == b"the old system"
    assert old or machine.disk.read_bytes().endswith(f"overlay of {1 << 30}".encode())
    assert machine.data_disk.read_bytes() == data
    renew()
    assert machine.disk.read_bytes() != b"the old system"
    assert {place.name for place in machine.directory.glob(".*")} == set()


# --- machines of before --------------------------------------------------------------------------


def test_a_machine_of_before_goes_on_with_its_one_disk(without: Machine) -> None:
    assert not without.spec.has_data
    assert without.disks == (without.disk,)
    assert status.of(without).document["dataDisk"] == "none"
    without.disk.write_bytes(b"system and data")
    with pytest.raises(RaveError, match="has no data disk") as caught:
        start(without, fresh_system=True)
    assert caught.value.exit_code == ExitCode.USAGE
    assert without.disk.read_bytes() == b"system and data"
    snapshots.create(without, "one")
    assert not (snapshots.folder(without) / "one" / snapshots.DATA).exists()
    without.disk.write_bytes(b"later")
    snapshots.restore(without, "one")
    assert without.disk.read_bytes() == b"system and data"


def test_its_record_is_read(without: Machine) -> None:
    place = without.directory / store.RECORD
    document = json.loads(place.read_text())
    del document["machine"]["data_of"], document["machine"]["image"]["data"]
    place.write_text(json.dumps(document | {"version": 6}))
    assert store.load("older") == without


def test_the_state_of_a_machine_that_was_suspended_before_is_read(
    machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    snapshots.create(machine, "one")
    suspend.suspend(machine)
    for place, inner in (
        (machine.suspended / saved.RECORD, None),
        (snapshots.folder(machine) / "one" / snapshots.RECORD, "state"),
    ):
        document = json.loads(place.read_text())
        del (document if inner is None else document[inner])["data"]
        place.write_text(json.dumps(document | {"version": 1}))
    found = saved.read(machine)
    assert found is not None
    assert found.data is None
    assert snapshots.load(machine, "one").record.state is not None


# --- snapshots, clones, suspended machines -------------------------------------------------------


def test_a_snapshot_is_of_both_disks(machine: Machine) -> None:
    machine.disk.write_bytes(b"system then")
    data = labelled(machine.spec.machine_id)
    machine.data_disk.write_bytes(data)
    found = snapshots.create(machine, "one")
    machine.disk.write_bytes(b"system now")
    machine.data_disk.write_bytes(qcow2())
    snapshots.restore(machine, "one")
    assert (machine.disk.read_bytes(), machine.data_disk.read_bytes()) == (b"system then", data)
    for place in found.place.iterdir():
        assert place.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "do",
    [
        start,
        lambda machine: start(machine, fresh_system=True),
        lambda machine: cloning.clone(machine, "second"),
        lambda machine: snapshots.create(machine, "two"),
    ],
)
def test_disks_of_two_moments_are_taken_for_no_machine(
    machine: Machine, do: Callable[[Machine], object]
) -> None:
    snapshots.create(machine, "one")
    machine.half_restored.write_text("one")
    with pytest.raises(RaveError, match="half put back to its snapshot one") as caught:
        do(machine)
    assert caught.value.hint == "rave vm snapshot restore demo one completes it"
    snapshots.restore(machine, "one")
    assert not machine.half_restored.exists()


def test_a_clone_has_the_data_and_knows_whose_they_were(machine: Machine) -> None:
    own = labelled(machine.spec.machine_id)
    machine.data_disk.write_bytes(own)
    made = cloning.clone(machine, "second")
    assert made.data_disk.read_bytes() == own
    assert made.data_disk.stat().st_ino != machine.data_disk.stat().st_ino
    assert made.spec.data_of == machine.spec.machine_id
    assert store.load("second") == made
    # One of the clone, which has not booted, is a copy of the original's, too.
    third = cloning.clone(made, "third")
    assert third.spec.data_of == machine.spec.machine_id


def test_a_clone_of_a_machine_that_never_ran_is_nobodys(machine: Machine) -> None:
    assert cloning.clone(machine, "second").spec.data_of is None


def test_a_memory_does_not_go_on_over_other_data(machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    suspend.suspend(machine)
    with machine.data_disk.open("ab") as disk:
        disk.write(b"more")
    with pytest.raises(RaveError, match="its data disk was changed meanwhile"):
        suspend.resume(machine)
