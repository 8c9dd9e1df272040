"""A machine gets another system with its data, keeps it if it proves itself, and goes back else."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import backup as backups
from rave_cli.flows import machine as machines
from rave_cli.flows import migrate as migrating
from rave_cli.flows import restore, secure, trial, update
from rave_cli.flows import vault as vaults
from rave_cli.images import build as builds
from rave_cli.images import carried
from rave_cli.images.carried import Carried
from rave_cli.machines import (
    changes,
    cloning,
    generations,
    leftovers,
    lifecycle,
    snapshots,
    status,
    store,
    suspend,
    underway,
)
from rave_cli.machines.guest import connection
from rave_cli.machines.qemu import processes
from rave_cli.process import Completed
from rave_cli.profiles.catalog import Catalog, parse
from rave_cli.profiles.names import BAKED
from rave_cli.views.update import difference_lines
from tests import kills
from tests.disks import LABEL, qcow2
from tests.unit.machines.crashes import every_step
from tests.unit.machines.updating import newer, planned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rave_cli.flows.events import Event
    from rave_cli.flows.update import RolledBack, UpdateReport
    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from rave_cli.settings import Settings
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd

__all__ = ["newer", "planned"]

# What the new system's services write as soon as they run.
WRITTEN = b"written by the new system"


class World:
    """A machine with an older image than there is, and a guest that keeps what a test says."""

    def __init__(
        self, machine: Machine, newer: Image, settings: Settings, catalog: Catalog
    ) -> None:
        self.machine, self.newer, self.settings, self.catalog = machine, newer, settings, catalog
        self.data = b""
        self.told: list[Event] = []

    def now(self) -> Machine:
        return store.load("demo")

    def reset(self) -> None:
        """Let the machine be as it was before everything."""
        machine = self.now()
        if processes.find(machine) is not None:
            lifecycle.kill(machine)
        for name in (generations.WORK, generations.PREVIOUS, generations.ASIDE):
            generations._clear(machine, name)
        underway.end(machine)
        machine = replace(machine, spec=self.machine.spec)
        store.save(machine)
        carried.write(machine.plan, carried.read(self.machine.spec.image.plan or machine.plan))
        machine.disk.write_bytes(b"the old system")
        if machine.spec.has_data:
            machine.data_disk.write_bytes(self.data)
        else:
            machine.data_disk.unlink(missing_ok=True)
        machines.start(machine, on_event=self.told.append)

    def update(self) -> UpdateReport:
        return update.update(
            "demo", self.catalog, self.settings, build=False, check=False,
            on_event=self.told.append,
        )  # fmt: skip

    def rollback(self, *, undo: bool = False) -> RolledBack:
        return update.rollback("demo", undo=undo, on_event=self.told.append)

    def kept(self) -> list[bytes]:
        """What the data disks hold that there are, the machine's first."""
        place = self.now().directory
        return [
            disk.read_bytes()
            for disk in (place / "data.qcow2", *sorted(place.glob("*/**/data.qcow2")))
            if disk.exists()
        ]

    def is_old(self) -> bool:
        machine = self.now()
        old = machine.spec.image.sha256 == self.machine.spec.image.sha256
        assert (machine.disk.read_bytes() == b"the old system") == old
        plan = carried.read(machine.plan)
        assert plan == carried.read(machine.spec.image.plan or machine.plan)
        return old

    def texts(self) -> str:
        return "\n".join(event.text for event in self.told)


def start(machine: Machine) -> None:
    lifecycle.start(machine, on_stage=lambda _stage: None)


def pid_of(machine: Machine) -> int | None:
    found = processes.find(machine)
    return None if found is None else found.pid


@pytest.fixture
def catalog() -> Catalog:
    return parse(BAKED.read_bytes())


@pytest.fixture
def machine(host: Host, plan: Plan, planned: Image) -> Machine:
    """A machine of the older image."""
    return store.create(store.new_spec(plan, planned, name="demo", mode="safe"))


@pytest.fixture
def guest(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A guest that writes as soon as it is healthy; whether it is, the last entry says."""
    well = [True]

    def wait(new: Machine) -> None:
        with new.data_disk.open("ab") as disk:
            disk.write(WRITTEN)
        if not well[-1]:
            raise RaveError(
                "machine demo is not healthy: nats (failed)",
                hint="rave vm logs demo",
                exit_code=ExitCode.NOT_READY,
            )

    monkeypatch.setattr(trial, "wait_until_healthy", wait)
    monkeypatch.setattr(secure, "install_if_any", lambda *_, **__: None)
    return well


@pytest.fixture
def world(  # noqa: PLR0917 - fixtures
    machine: Machine,
    newer: Image,
    guest: list[bool],
    sshd: FakeSshd,
    outside: Settings,
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    monkeypatch.setattr(builds, "existing_image", lambda _plan: newer)
    found = World(machine, newer, outside, catalog)
    sector = LABEL.format(machine.spec.machine_id).encode()
    found.data = qcow2(machine.spec.disk_gib << 30, sector=sector)
    machine.disk.write_bytes(b"the old system")
    machine.data_disk.write_bytes(found.data)
    start(machine)
    return found


# --- an update -----------------------------------------------------------------------------------


def test_a_machine_gets_the_new_system_and_keeps_its_data(world: World, newer: Image) -> None:
    done = world.update()
    machine = world.now()
    assert machine.spec.image == newer
    assert str(newer.qcow2).encode() in machine.disk.read_bytes()
    assert world.kept() == [world.data + WRITTEN, world.data]
    assert processes.find(machine) is not None
    assert done.tried is not None
    assert done.tried.downtime > 0
    document = done.document()
    assert (document["from"], document["to"], document["updated"]) == ("0" * 64, "1" * 64, True)
    assert document["previous"]["image"] == "0" * 64
    found = status.of(machine, thorough=True).document
    assert (found["previousImage"], found["change"], found["detail"]) == ("0" * 64, None, "")
    assert generations.replaced(machine) == "0" * 64
    assert not world.is_old()
    assert json.loads(json.dumps(document)) == document


def test_the_newest_image_needs_no_update(world: World) -> None:
    world.update()
    pid = pid_of(world.now())
    again = world.update()
    assert not again.difference.changed
    assert again.tried is None
    assert pid_of(world.now()) == pid


def test_a_stopped_machine_is_stopped_afterwards(world: World) -> None:
    lifecycle.stop(world.machine)
    world.update()
    assert processes.find(world.now()) is None
    assert not world.is_old()


def test_what_would_change_is_told_without_any_of_it(world: World, newer: Image) -> None:
    pid = pid_of(world.machine)
    found = update.look("demo", world.catalog, world.settings, build=False, on_event=print)
    assert found.difference.changed
    assert found.document()["updated"] is False
    assert pid_of(world.now()) == pid
    assert world.is_old()


def test_a_suspended_machine_is_refused(world: World) -> None:
    suspend.suspend(world.machine)
    with pytest.raises(RaveError, match="is suspended") as caught:
        world.update()
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint is not None
    assert "rave vm resume demo" in caught.value.hint
    assert world.is_old()


def test_a_system_that_fails_is_taken_back_with_the_data_of_before(
    world: World, guest: list[bool]
) -> None:
    guest.append(False)
    with pytest.raises(RaveError, match="is as it was before the update") as caught:
        world.update()
    assert caught.value.exit_code == ExitCode.NOT_READY
    assert "nats (failed)" in caught.value.message
    assert caught.value.data["rolledBack"] is True
    # The machine's logs are those of the old system, which is well.
    hint = str(caught.value.hint)
    assert "rave vm logs" not in hint
    assert hint.startswith("rave vm rollback demo --undo; then rave vm start demo --keep-running")
    assert world.is_old()
    # What was written meanwhile is not lost.
    assert world.kept() == [world.data, world.data + WRITTEN]
    assert processes.find(world.now()) is not None
    assert "--undo" in world.texts()
    assert underway.read(world.now()) is None


def test_a_system_that_does_not_boot_is_taken_back(
    world: World, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = machines.boot

    def fails_once(machine: Machine, **options: Any) -> Any:
        if machine.spec.image.sha256 == "1" * 64:
            raise RaveError("it panics", exit_code=ExitCode.NOT_READY)
        return boot(machine, **options)

    monkeypatch.setattr(machines, "boot", fails_once)
    with pytest.raises(RaveError, match="it panics"):
        world.update()
    assert world.is_old()
    assert processes.find(world.now()) is not None


def test_an_interruption_takes_it_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_machine: Machine) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "wait_until_healthy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.update()
    assert world.is_old()
    assert processes.find(world.now()) is not None


def test_an_interruption_while_the_guest_shuts_down_leaves_it_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, pid, told = machines.stop, pid_of(world.machine), []

    def press(machine: Machine, **options: Any) -> Any:
        told.append(machine)
        if len(told) > 1:
            return stop(machine, **options)
        # The button is pressed, and the guest will go down whoever waits for that.
        raise KeyboardInterrupt

    monkeypatch.setattr(machines, "stop", press)
    with pytest.raises(KeyboardInterrupt):
        world.update()
    assert world.is_old()
    assert pid_of(world.now()) not in {None, pid}
    assert world.kept() == [world.data]
    assert "what was written since" not in world.texts()


def stopping(world: World) -> int | None:
    """Leave what a command leaves that is killed while the guest shuts down; return its pid."""
    machine = world.now()
    change = generations.begin(machine, "update", world.newer, runs=True)
    underway.note(machine, replace(change, step="stopping"))
    return pid_of(machine)


def test_a_guest_that_shuts_down_for_a_killed_update_is_started_anew(world: World) -> None:
    pid = stopping(world)
    machines.start(world.now(), on_event=world.told.append)
    assert pid_of(world.now()) not in {None, pid}
    assert world.is_old()
    assert "while the old system shut down" in world.texts()
    assert underway.read(world.now()) is None


def test_the_next_update_lets_a_machine_run_that_ran_before_the_killed_one(world: World) -> None:
    stopping(world)
    world.update()
    assert not world.is_old()
    assert processes.find(world.now()) is not None


def test_a_rollback_that_is_broken_off_while_the_guest_shuts_down_is_told_and_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.update()

    def press(_machine: Machine, **_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(machines, "stop", press)
        with pytest.raises(KeyboardInterrupt):
            world.rollback()
    assert "was broken off while" in status.of(world.now()).detail
    lifecycle.kill(world.now())
    world.rollback()
    assert world.is_old()
    assert processes.find(world.now()) is not None
    assert underway.read(world.now()) is None


def test_a_rollback_lets_a_machine_run_that_ran_before_the_killed_update(world: World) -> None:
    world.update()
    stopping(world)
    world.rollback()
    assert world.is_old()
    assert processes.find(world.now()) is not None


def test_a_guest_that_does_not_shut_down_keeps_its_system(world: World, host: Host) -> None:
    lifecycle.kill(world.machine)
    host.behave(powerdown=False, quit=True)
    start(world.machine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "PATIENCE", 0.05)
        patch.setattr(lifecycle, "_power_off", lambda _machine: False)
        with pytest.raises(RaveError, match="does not shut down in order"):
            world.update()
    assert world.is_old()
    assert world.kept() == [world.data]


def test_two_commands_do_not_update_one_machine(world: World) -> None:
    with underway.alone("demo"), pytest.raises(RaveError, match="another rave command"):
        world.update()


def test_a_machine_that_is_being_updated_is_let_alone(world: World) -> None:
    machine = world.machine
    lifecycle.stop(machine)
    change = underway.Change("update", "exchanging", 1.0, "0" * 64, "1" * 64, runs=True)
    underway.note(machine, change)
    doing: list[Callable[[], object]] = [
        lambda: start(machine),
        lambda: snapshots.create(machine, "one"),
        lambda: cloning.clone(machine, "second"),
        lambda: changes.rename("demo", "other"),
        lambda: changes.resize("demo", disk_gib=99),
    ]
    for do in doing:
        with pytest.raises(RaveError, match="has not ended"):
            do()
    with underway.alone("demo"):
        told = status.of(machine)
        assert "is under way" in told.detail
        with pytest.raises(RaveError, match="another rave command"):
            machines.start(machine, on_event=print)


# --- what speaks against it ----------------------------------------------------------------------


def with_lock(image: Image, place: Path, *packages: str, resolved: str = "", **facts: Any) -> Image:
    place.mkdir(exist_ok=True)
    entries = [
        {
            "name": name, "version": "1", "file": f"{name}.deb", "sha256": "0" * 64,
            "architecture": "amd64", "role": "guest",
        }
        for name in packages
    ]  # fmt: skip
    requested = {"guest": [], "kernel": "linux", "tools": []}
    lock = {
        "version": 3,
        "epoch": 1,
        "resolved": resolved,
        "requested": requested,
        "packages": entries,
    }
    (place / "lock.json").write_text(json.dumps(lock))
    (place / "boot.json").write_text(json.dumps({"kind": "kernel", "cmdline": ""} | facts))
    return replace(image, store_path=str(place))


def directory(name: str, uid: int, *, filled: bool = False) -> dict[str, Any]:
    return {"name": name, "uid": uid, "gid": uid, "mode": "0750", "filled": filled}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (("postgresql-15",), ("postgresql-17",), "PostgreSQL 15, which the 17"),
        ([directory("nats", 104)], [directory("nats", 105)], "belongs to 104:104"),
        ([directory("nats", 104)], [directory("postgresql", 9, filled=True)], "only a new machine"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    world: World, newer: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, before: Any,
    after: Any, said: str,
) -> None:  # fmt: skip
    images = []
    for name, image, facts in (("a", world.machine.spec.image, before), ("b", newer, after)):
        packages = facts if isinstance(facts, tuple) else ("bash",)
        data: dict[str, Any] = {"data": facts} if isinstance(facts, list) else {}
        images.append(with_lock(image, tmp_path / name, *packages, **data))
    spec = replace(world.machine.spec, image=images[0])
    store.save(replace(world.machine, spec=spec))
    monkeypatch.setattr(builds, "existing_image", lambda _plan: images[1])
    with pytest.raises(RaveError, match=said) as caught:
        world.update()
    assert caught.value.exit_code == ExitCode.USAGE
    assert "rave backup restore demo --to NEW" in str(caught.value.hint)
    assert processes.find(world.now()) is not None


def test_packages_services_secrets_and_databases_are_compared(
    world: World, newer: Image, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rave_cli.images import difference

    old = with_lock(world.machine.spec.image, tmp_path / "a", "bash", "gone", data=[])
    new = with_lock(newer, tmp_path / "b", "bash", "come", data=[directory("new", 7)])
    without = plan.model_copy(
        update={
            "services": {name: s for name, s in plan.services.items() if name != "nats"},
            "secrets": {name: s for name, s in plan.secrets.items() if name != "nats/password"},
            "databases": (),
        }
    )
    carried.write(tmp_path / "less.json", Carried(door=2, plan=without))
    found = difference.compare(replace(old, plan=tmp_path / "less.json"), new)
    assert found.packages is not None
    assert [str(change) for change in found.packages] == ["+ come 1", "- gone 1"]
    assert (found.added, found.removed, found.unknown) == (("nats",), (), ())
    assert found.secrets == ("nats/password",)
    assert set(found.databases) == {entry.role for entry in plan.databases}
    assert len(found.obstacles) == bool(plan.databases)
    back = difference.compare(new, replace(old, plan=tmp_path / "less.json"))
    assert (back.added, back.removed) == ((), ("nats",))
    assert difference.compare(replace(old, plan=None), new).unknown == ("plan",)


@pytest.mark.parametrize(
    ("before", "after", "older"),
    [
        ("20261126T125615Z", "20261125T130749Z", True),
        ("20261125T130749Z", "20261126T125615Z", False),
        ("20261125T130749Z", "20261125T130749Z", False),
        ("", "20261125T130749Z", False),
        ("20261125T130749Z", "", False),
    ],
)
def test_an_image_whose_packages_were_chosen_before_those_that_it_replaces_is_told(
    world: World, newer: Image, tmp_path: Path, before: str, after: str, *, older: bool
) -> None:
    from rave_cli.images import difference

    old = with_lock(world.machine.spec.image, tmp_path / "a", "bash", resolved=before)
    new = with_lock(newer, tmp_path / "b", "bash", resolved=after)
    found = difference.compare(old, new)
    assert (found.older, found.document()["older"]) == (older, older)
    lines = difference_lines(update.UpdateReport(world.machine, found))
    assert any(line.startswith("  older") for line in lines) == older


# --- another major release of PostgreSQL ---------------------------------------------------------


class Dumps:
    """A guest whose PostgreSQL says how large it is, and dumps what it holds, or does not."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.says: dict[str, Any] = {"bytes": 3 << 20, "needed": 330 << 20, "free": 400 << 20}
        self.fails = ""

    @contextmanager
    def connect(self, machine: Machine) -> Iterator[Dumps]:
        assert processes.find(machine) is not None
        yield self

    def run(self, argv: tuple[str, ...], *, stdin: bytes, sudo: bool, **_more: Any) -> Completed:
        assert (argv[:3], sudo) == (("python3", "-I", "-"), True)
        assert b"pg_dumpall" in stdin
        verb, cluster = argv[3:]
        change = underway.read(store.load("demo"))
        self.asked.append((verb, change.step if change else ""))
        assert cluster == "/var/lib/postgresql/15/main"
        if verb == "write" and self.fails:
            return Completed(argv, 1, b"", f"more\nrave: {self.fails}\n".encode())
        found = {"databases": ["app", "postgres"], "bytes": 1 << 20} if verb == "write" else {}
        return Completed(argv, 0, json.dumps(self.says | found).encode(), b"")


@pytest.fixture
def dumps(world: World, newer: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dumps:
    """The machine's image has PostgreSQL 15, the newer one 17, which takes a dump."""
    old = with_lock(world.machine.spec.image, tmp_path / "a", "postgresql-15", data=[])
    new = with_lock(newer, tmp_path / "b", "postgresql-17", data=[], loads=["postgresql"])
    world.machine = replace(world.machine, spec=replace(world.machine.spec, image=old))
    store.save(world.machine)
    monkeypatch.setattr(builds, "existing_image", lambda _plan: new)
    found = Dumps()
    monkeypatch.setattr(connection, "connect", found.connect)
    return found


def test_postgresql_dumps_its_databases_before_the_old_system_stops(
    world: World, dumps: Dumps
) -> None:
    found = update.look("demo", world.catalog, world.settings, build=False, on_event=print)
    lines = "\n".join(difference_lines(found))
    assert "PostgreSQL   15 -> 17: its databases are dumped and loaded anew: 3 MiB" in lines
    assert "330 MiB of room meanwhile (400 MiB are free)" in lines
    document = found.document()
    assert document["postgresql"] == {"from": 15, "to": 17}
    assert document["dump"] == {"bytes": 3 << 20, "neededBytes": 330 << 20, "freeBytes": 400 << 20}
    assert dumps.asked == [("look", "")]
    world.update()
    # Before anything is stopped, and when it is noted that the machine is.
    assert dumps.asked[1:] == [("look", ""), ("write", "stopping")]
    assert "2 databases, 1 MiB" in world.texts()
    assert not world.is_old()


def test_a_dump_that_fails_leaves_the_machine_as_it_was(world: World, dumps: Dumps) -> None:
    dumps.fails = "a dump has not all of it: database app admits nobody"
    pid = pid_of(world.machine)
    with pytest.raises(RaveError, match="database app admits nobody") as caught:
        world.update()
    assert caught.value.exit_code == ExitCode.NOT_READY
    assert world.is_old()
    assert world.kept() == [world.data]
    # Its services were stopped for the dump: it is started anew.
    assert pid_of(world.now()) not in (None, pid)
    assert underway.read(world.now()) is None


def test_a_dump_needs_room_and_a_machine_that_runs(world: World, dumps: Dumps) -> None:
    dumps.says["free"] = 329 << 20
    pid = pid_of(world.machine)
    with pytest.raises(RaveError, match="329 MiB free on its data disk") as caught:
        world.update()
    disk = world.machine.spec.disk_gib + 1
    assert caught.value.hint == f"rave vm set demo --disk {disk}"
    assert (caught.value.exit_code, pid_of(world.now())) == (ExitCode.HOST, pid)
    dumps.says = {"bytes": "many"}
    with pytest.raises(RaveError, match="does not say what its PostgreSQL holds"):
        world.update()
    lifecycle.stop(world.now())
    found = update.look("demo", world.catalog, world.settings, build=False, on_event=print)
    assert "the machine must run for that" in "\n".join(difference_lines(found))
    with pytest.raises(RaveError, match="does not run") as caught:
        world.update()
    assert caught.value.hint == "rave vm start demo"
    assert caught.value.exit_code == ExitCode.USAGE
    assert world.is_old()


# --- the way back --------------------------------------------------------------------------------


def test_a_rollback_brings_system_and_data_back_and_sets_aside_what_was_written(
    world: World,
) -> None:
    world.update()
    done = world.rollback()
    assert world.is_old()
    assert world.kept() == [world.data, world.data + WRITTEN]
    assert processes.find(world.now()) is not None
    assert done.aside is not None
    assert "rave vm rollback demo --undo" in world.texts()
    assert generations.previous(world.now()) is None
    with pytest.raises(RaveError, match="nothing is kept") as caught:
        world.rollback()
    assert "--undo" in str(caught.value.hint)


def test_a_rollback_can_be_undone_and_done_again(world: World) -> None:
    world.update()
    world.rollback()
    world.rollback(undo=True)
    assert not world.is_old()
    assert world.kept()[0] == world.data + WRITTEN
    world.rollback(undo=True)
    assert world.is_old()
    assert world.kept() == [world.data, world.data + WRITTEN]
    world.update()
    assert not world.is_old()


def test_there_is_nothing_to_go_back_to(world: World) -> None:
    for undo in (False, True):
        with pytest.raises(RaveError, match="nothing is") as caught:
            world.rollback(undo=undo)
        assert caught.value.exit_code == ExitCode.USAGE


def test_what_grew_since_is_as_large_after_a_rollback(world: World) -> None:
    world.update()
    lifecycle.stop(world.now())
    gib = world.now().spec.disk_gib + 3
    changes.resize("demo", disk_gib=gib)
    world.rollback()
    assert world.now().spec.disk_gib == gib
    assert world.now().data_disk.read_bytes().endswith(f"overlay of {gib}G".encode())


def test_the_next_update_takes_the_place_of_the_one_before(
    world: World, newer: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.update()
    third = replace(newer, sha256="2" * 64)
    monkeypatch.setattr(builds, "existing_image", lambda _plan: third)
    world.update()
    kept = generations.previous(world.now())
    assert kept is not None
    assert kept.spec.image == newer
    assert world.kept() == [world.data + WRITTEN * 2, world.data + WRITTEN]


def test_only_who_asks_prunes_it(world: World) -> None:
    world.update()
    world.rollback()
    world.update()
    assert [left.kind for left in leftovers.find(images=True) if left.machine] == []
    found = leftovers.find(images=False, updates=True)
    assert [left.kind for left in found] == ["previous", "set-aside"]
    assert all(leftovers.remove(left) for left in found)
    assert world.kept() == [world.data + WRITTEN]
    assert leftovers.find(images=False, updates=True) == []


def test_it_goes_along_with_a_new_name(world: World) -> None:
    world.update()
    lifecycle.stop(world.now())
    moved = changes.rename("demo", "other")
    update.rollback("other", undo=False, on_event=print)
    again = store.load("other")
    assert again.spec.image.sha256 == "0" * 64
    assert again.name == "other"
    assert moved.directory.is_dir()


# --- migration -----------------------------------------------------------------------------------

STATE = b"what the services keep"


@pytest.fixture
def one_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A machine of before data disks, whose guest hands over what it keeps."""
    machine = world.machine
    lifecycle.kill(machine)
    spec = replace(machine.spec, image=replace(machine.spec.image, data=None))
    machine.data_disk.unlink()
    world.machine = replace(machine, spec=spec)
    store.save(world.machine)
    start(world.machine)

    class Made:
        backup = type("Backup", (), {"name": "demo-1"})()

    def put(new: Machine, *_: object, **__: object) -> None:
        with new.data_disk.open("ab") as disk:
            disk.write(STATE)

    monkeypatch.setattr(backups, "make", lambda *_, **__: Made())
    monkeypatch.setattr(backups, "keeps_something", lambda _machine: None)
    monkeypatch.setattr(vaults, "opened", lambda _settings: None)
    monkeypatch.setattr(restore, "put", put)
    return world


def migrate(world: World) -> UpdateReport:
    return migrating.migrate(
        "demo", world.catalog, world.settings, build=False, check=False,
        on_event=world.told.append,
    )  # fmt: skip


def test_a_migrated_machine_is_down_until_it_has_what_it_keeps(
    one_disk: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []

    def put(*_: object, **__: object) -> None:
        time.sleep(0.2)
        ends.append(time.monotonic())

    begins = []
    stop = machines.stop

    def press(machine: Machine, **options: Any) -> Any:
        begins.append(time.monotonic())
        return stop(machine, **options)

    monkeypatch.setattr(restore, "put", put)
    monkeypatch.setattr(machines, "stop", press)
    done = migrate(one_disk).tried
    assert done is not None
    assert done.downtime >= ends[0] - begins[0]


def test_a_machine_of_before_gets_a_data_disk_with_what_it_keeps(one_disk: World) -> None:
    with pytest.raises(RaveError, match="has no data disk") as caught:
        one_disk.update()
    assert caught.value.hint == "rave vm migrate demo gives it one"
    done = migrate(one_disk)
    machine = one_disk.now()
    assert machine.spec.has_data
    assert one_disk.kept()[0].endswith(STATE + WRITTEN)
    assert done.tried is not None
    assert "from here on the backup demo-1 counts" in one_disk.texts()
    one_disk.rollback()
    assert one_disk.is_old()
    assert not one_disk.now().spec.has_data
    assert not machine.data_disk.exists()
    one_disk.rollback(undo=True)
    assert STATE + WRITTEN in one_disk.kept()[0]


def test_a_migration_that_fails_leaves_the_one_disk(one_disk: World, guest: list[bool]) -> None:
    guest.append(False)
    with pytest.raises(RaveError, match="is as it was before the migration"):
        migrate(one_disk)
    assert one_disk.is_old()
    assert not one_disk.now().spec.has_data
    assert processes.find(one_disk.now()) is not None


def test_who_has_a_data_disk_or_does_not_run_is_not_migrated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RaveError, match="has a data disk already"):
        migrate(world)
    lifecycle.stop(world.machine)
    spec = replace(world.machine.spec, image=replace(world.machine.spec.image, data=None))
    store.save(replace(world.machine, spec=spec))
    with pytest.raises(RaveError, match="does not run"):
        migrate(world)


# --- killed --------------------------------------------------------------------------------------


def in_order(world: World) -> bool:
    """Let the next command put the machine in order; returns whether it is what it was."""
    told = status.of(world.now())
    change = underway.read(world.now())
    assert (change is None) == (told.change is None)
    if change is not None:
        assert "rave vm start demo puts it in order" in told.detail
        assert change.told in told.detail
    machines.start(world.now(), on_event=world.told.append)
    machine = world.now()
    assert underway.read(machine) is None
    assert not (machine.directory / generations.WORK).exists()
    assert processes.find(machine) is not None
    return world.is_old()


def points(do: Callable[[], object], before: Callable[[], object]) -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        # Each point writes a lot; what a test would wait for is the disk.
        patch.setattr("os.fsync", lambda _: None)
        yield from every_step(do, least=20, before=before, dear=6)


def test_an_update_that_is_killed_is_told_and_put_in_order(world: World) -> None:
    for _ in points(world.update, world.reset):
        if in_order(world):
            assert world.kept()[0] == world.data
        else:
            assert world.kept()[:2] == [world.data + WRITTEN, world.data]
            world.rollback()
            assert world.kept()[0] == world.data


def test_an_update_whose_way_back_is_killed_is_taken_back_by_the_next(
    world: World, guest: list[bool]
) -> None:
    guest.append(False)

    def fail() -> None:
        with pytest.raises(RaveError):
            world.update()

    for _ in points(fail, world.reset):
        assert in_order(world)
        assert world.kept()[0] == world.data


def test_a_rollback_that_is_killed_is_not_done_or_completed(world: World) -> None:
    def before() -> None:
        world.reset()
        world.update()

    for _ in points(world.rollback, before):
        old = in_order(world)
        kept = world.kept()
        assert kept[0] == (world.data if old else world.data + WRITTEN)
        assert sorted(kept, key=len) == [world.data, world.data + WRITTEN]


def test_a_migration_that_is_killed_is_told_and_put_in_order(one_disk: World) -> None:
    def do() -> None:
        migrate(one_disk)

    for _ in points(do, one_disk.reset):
        if in_order(one_disk):
            assert not one_disk.now().data_disk.exists()
        else:
            assert one_disk.kept()[0].endswith(STATE + WRITTEN)


def test_a_qemu_that_dies_during_an_update_takes_it_back_or_not_at_all(
    world: World, host: Host
) -> None:
    place = host.bin / "fatal"
    for point in range(0, sys.maxsize, max(1, min(kills.STRIDE - 2, 5))):
        world.reset()
        paths.atomic_write(place, f"{point // 2} {('before', 'after')[point % 2]}".encode())
        told = None
        try:
            world.update()
        except RaveError as error:
            told = error
        if place.exists():
            place.unlink()
            break
        kills.count()
        old = in_order(world)
        assert told is None or old
        assert world.kept()[0] == world.data + (b"" if old else WRITTEN)
    assert told is None
