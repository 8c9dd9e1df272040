"""Machine directories: whole or not there, read with suspicion, never two of one name."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.images import carried
from rave_cli.machines import lifecycle, store
from rave_cli.machines.names import stored_names
from rave_cli.machines.spec import machines_dir
from rave_cli.machines.store import Unreadable
from tests.disks import qcow2

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host


@pytest.fixture
def spec(host: Host, plan: Plan, image: Image) -> MachineSpec:
    return store.new_spec(plan, image, name="demo", mode="safe")


def leftovers() -> list[str]:
    return [p.name for p in machines_dir().iterdir() if not p.name.endswith(".lock")]


def test_a_machine_is_read_back_as_it_was_made(machine: Machine) -> None:
    assert store.load("demo") == machine
    assert store.list_machines() == [machine]


@pytest.fixture
def moved(plan: Plan, image: Image, tmp_path: Path) -> tuple[Plan, Image]:
    """An image whose status page is at 8443, and its plan."""
    ports = [p.model_copy(update={"port": 8443}) if p.name == "status" else p for p in plan.exposed]
    own = plan.model_copy(update={"exposed": tuple(ports)})
    carried.write(tmp_path / "plan.json", carried.Carried(door=2, plan=own))
    return own, replace(image, plan=tmp_path / "plan.json")


def test_a_machine_goes_by_the_plan_of_its_image_and_keeps_it(
    host: Host, plan: Plan, moved: tuple[Plan, Image], tmp_path: Path
) -> None:
    own, image = moved
    machine = store.create(store.new_spec(plan, image, name="demo", mode="safe"))
    assert {forward.guest for forward in machine.spec.forwards} == {22, 8443}
    assert machine.plan.stat().st_mode & 0o777 == 0o600
    (tmp_path / "plan.json").unlink()
    assert store.plan(store.load("demo")) == own


def test_a_machine_of_an_image_without_a_plan_has_none(machine: Machine) -> None:
    assert not machine.plan.exists()
    assert store.plan(machine) is None


def test_a_newer_or_damaged_plan_is_named_and_the_machine_is_still_there(
    host: Host, plan: Plan, moved: tuple[Plan, Image]
) -> None:
    machine = store.create(store.new_spec(plan, moved[1], name="demo", mode="safe"))
    text = machine.plan.read_text()
    machine.plan.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(RaveError, match="made by a newer rave"):
        store.plan(machine)
    machine.plan.write_text(text.replace('"door"', '"gate"'))
    with pytest.raises(RaveError, match=r"plan\.json is damaged: door is missing"):
        store.plan(machine)
    assert store.load("demo") == machine


def test_a_taken_name_is_refused_and_the_machine_untouched(
    machine: Machine, spec: MachineSpec
) -> None:
    with pytest.raises(RaveError, match="exists already") as caught:
        store.create(spec)
    assert caught.value.exit_code == ExitCode.USAGE
    assert store.load("demo") == machine


def test_of_two_at_once_one_wins_and_the_other_is_told(spec: MachineSpec) -> None:
    outcomes: list[Any] = []
    gate = threading.Barrier(4)

    def attempt() -> None:
        gate.wait()
        try:
            outcomes.append(store.create(replace(spec)))
        except RaveError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [o for o in outcomes if isinstance(o, RaveError)]
    assert len(errors) == 3
    assert all("exists already" in e.message or "another rave" in e.message for e in errors)
    assert leftovers() == ["demo"]


def test_a_full_disk_leaves_nothing(spec: MachineSpec, host: Host) -> None:
    host.break_qemu_img("qemu-img: disk.qcow2: No space left on device")
    with pytest.raises(RaveError, match="No space left on device") as caught:
        store.create(spec)
    assert caught.value.exit_code == ExitCode.HOST
    assert leftovers() == []


def test_an_interrupted_creation_leaves_nothing(
    spec: MachineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_machine: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "begin_system", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.create(spec)
    assert leftovers() == []


def test_what_a_killed_command_left_is_swept_and_never_listed(
    spec: MachineSpec, machine: Machine
) -> None:
    lifecycle.delete("demo")
    (machines_dir() / ".new-demo.abc").mkdir()
    (machines_dir() / ".old-demo.abc").mkdir()
    assert stored_names() == []
    store.create(spec)
    assert leftovers() == ["demo"]


def test_a_missing_qemu_img_names_its_package(spec: MachineSpec, host: Host) -> None:
    (host.bin / "qemu-img").unlink()
    with pytest.raises(RaveError, match="qemu-img is not on PATH") as caught:
        store.create(spec)
    assert caught.value.exit_code == ExitCode.HOST
    assert "qemu-utils" in str(caught.value.hint)


def test_a_truncated_image_makes_no_machine(spec: MachineSpec) -> None:
    spec.image.qcow2.write_bytes(b"QFI\xfb")
    with pytest.raises(RaveError):
        store.create(spec)
    assert not machines_dir().exists() or leftovers() == []


def test_a_disk_smaller_than_the_image_is_refused(spec: MachineSpec) -> None:
    data = b"QFI\xfb" + bytes(20) + (20 << 30).to_bytes(8)
    spec.image.qcow2.write_bytes(data)
    older = replace(spec.image, size=len(data), data=None)
    with pytest.raises(RaveError, match="--disk 12 is too little: the image's own disk has 20"):
        store.create(replace(spec, image=older))
    assert spec.image.data is not None
    spec.image.data.write_bytes(qcow2(20 << 30))
    with pytest.raises(RaveError, match="--disk 12 is too little: the image's own disk has 20"):
        store.create(replace(spec, image=replace(older, data=spec.image.data)))


def test_an_image_that_is_no_qcow2_is_refused(spec: MachineSpec) -> None:
    spec.image.qcow2.write_bytes(b"x" * spec.image.size)
    with pytest.raises(RaveError, match="is not a qcow2 file"):
        store.create(spec)


def rewrite(machine: Machine, changes: dict[str, Any]) -> None:
    """Change members of a machine's record."""
    path = machine.directory / "machine.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | changes))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"null", "it is not an object"),
        (b"[]", "it is not an object"),
        (b"{}", "version is missing"),
        (b'{"version": 0, "machine": {}}', "version is 0"),
        (b'{"version": true, "machine": {}}', "version is True"),
        (b'{"version": 1, "machine": {"name": "demo"}}', "machine.uuid is missing"),
        (b'{"version": 2, "machine": {"name": "demo"}}', "machine.uuid is missing"),
    ],
)
def test_a_damaged_record_is_named_with_its_fault_and_a_hint_that_destroys_nothing(
    machine: Machine, content: bytes, why: str
) -> None:
    path = machine.directory / "machine.json"
    path.write_bytes(content)
    with pytest.raises(RaveError, match=f"{path} is damaged: {why}") as caught:
        store.load("demo")
    assert caught.value.exit_code == ExitCode.HOST
    assert "delete" not in str(caught.value.hint)
    assert "to give the machine up" in caught.value.detail[-1]
    with pytest.raises(RaveError, match="is damaged"):
        lifecycle.delete("demo")
    (entry,) = store.list_machines()
    assert isinstance(entry, Unreadable)
    assert entry.state == "damaged"
    lifecycle.delete("demo", force=True)
    assert leftovers() == []


def test_a_missing_record_is_damage_too(machine: Machine) -> None:
    (machine.directory / "machine.json").unlink()
    with pytest.raises(RaveError, match="is damaged: it is missing"):
        store.load("demo")


def test_an_unknown_and_a_missing_member_are_told_as_such(machine: Machine) -> None:
    document = json.loads((machine.directory / "machine.json").read_text())["machine"]
    others = {key: value for key, value in document.items() if key != "cpus"}
    rewrite(machine, {"machine": others | {"gpu": 1}})
    with pytest.raises(RaveError, match=r"machine\.cpus is missing") as caught:
        store.load("demo")
    assert "machine.gpu is unknown" in caught.value.detail


def test_a_machine_of_a_newer_rave_is_named_kept_and_not_offered_for_deletion(
    machine: Machine,
) -> None:
    rewrite(machine, {"version": store.MACHINE.version + 1, "machine": {"anything": "new"}})
    for attempt in (store.load, lifecycle.delete, lambda n: lifecycle.delete(n, force=True)):
        with pytest.raises(
            RaveError, match=r"made by a newer rave \(record version 8, this rave knows 7\)"
        ) as caught:
            attempt("demo")
        assert "update rave" in str(caught.value.hint)
        assert "delete" not in f"{caught.value.hint}{caught.value.detail}"
    assert machine.disk.exists()
    (entry,) = store.list_machines()
    assert isinstance(entry, Unreadable)
    assert entry.state == "newer"


def test_a_record_of_another_machine_is_damage(machine: Machine) -> None:
    path = machine.directory / "machine.json"
    document = json.loads(path.read_text())
    document["machine"]["name"] = "other"
    path.write_text(json.dumps(document))
    with pytest.raises(RaveError, match="record of machine 'other'"):
        store.load("demo")


def test_an_unknown_machine_is_named_with_the_known_ones(machine: Machine) -> None:
    for attempt in (store.load, lifecycle.delete, lambda n: lifecycle.delete(n, force=True)):
        with pytest.raises(RaveError, match=r"no machine 'dmeo' \(there are: demo\)") as caught:
            attempt("dmeo")
        assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("name", ["../demo", "", "DEMO", "a b", ".lock"])
def test_a_bad_name_reaches_no_directory(machine: Machine, name: str) -> None:
    for attempt in (store.load, lifecycle.delete, lambda n: lifecycle.delete(n, force=True)):
        with pytest.raises(RaveError, match="cannot be a machine's name"):
            attempt(name)
    assert stored_names() == ["demo"]


def test_no_machines_is_an_empty_list(home: Path) -> None:
    assert stored_names() == []
    assert store.list_machines() == []
