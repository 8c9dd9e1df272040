"""rave killed at every line of making a new machine of a backup, and of a restore test.

The machines, the folder and the guest are files here; what is tried is what rave itself remembers.
"""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.backups import ledger, pending
from rave_cli.backups.kept import KnownBackups
from rave_cli.errors import RaveError
from rave_cli.flows import restore_new, restore_test
from rave_cli.flows.restore import RestoredBackup
from rave_cli.machines.guest import connection
from rave_cli.process import Completed
from tests import kills
from tests.unit.backups.test_kept import backup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WATCHED = {module.__file__ for module in (restore_new, restore_test, pending, ledger)}
BACKUP = backup()


class World:
    """Machines as files: what they are, and how often something was put into them."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def names(self) -> list[str]:
        return sorted(entry.stem for entry in self.place.glob("*.vm"))

    def read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.place / f"{name}.vm").read_text())
        return found

    def write(self, name: str, instance: str, put: int) -> None:
        new = self.place / f"{name}.new"
        new.write_text(json.dumps({"instance": instance, "put": put}))
        new.rename(self.place / f"{name}.vm")

    def load(self, name: str) -> Any:
        spec = SimpleNamespace(instance_id=self.read(name)["instance"])
        return SimpleNamespace(name=name, spec=spec)

    def up(self, wanted: Any, *_: object, **__: object) -> Any:
        if wanted.name not in self.names():
            self.write(wanted.name, wanted.instance_id, 0)
        return SimpleNamespace(ready=SimpleNamespace(machine=self.load(wanted.name)))

    def put(self, machine: Any, *_: object, **__: object) -> RestoredBackup:
        found = self.read(machine.name)
        self.write(machine.name, found["instance"], found["put"] + 1)
        return RestoredBackup(machine.name, BACKUP, BACKUP.services, 1.0)

    def delete(self, name: str, *, force: bool) -> None:
        assert force
        (self.place / f"{name}.vm").unlink()

    def connect(self, _machine: object) -> Any:
        return _Session()


class _Session:
    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def run(self, argv: tuple[str, ...], *, timeout: float) -> Completed:
        assert timeout > 0
        return Completed(argv, 0, b'{"state": "healthy"}', b"")


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # Each point writes records; what a test would wait for is the disk.
    monkeypatch.setattr("os.fsync", lambda _: None)
    found = World(home)
    found.write("other", "9" * 32, 0)
    listing = KnownBackups((BACKUP,), ())
    target = SimpleNamespace(listing=lambda: listing)
    for module in (restore_new, restore_test):
        monkeypatch.setattr(module, "stored_names", found.names)
        monkeypatch.setattr(module.vaults, "opened", lambda _settings: target)
    monkeypatch.setattr("rave_cli.flows.up.up", found.up)
    monkeypatch.setattr("rave_cli.flows.restore.put", found.put)
    monkeypatch.setattr(restore_new, "NewMachine", lambda *_, **more: SimpleNamespace(**more))
    monkeypatch.setattr("rave_cli.machines.store.load", found.load)
    monkeypatch.setattr(connection, "connect", found.connect)
    monkeypatch.setattr("rave_cli.machines.lifecycle.delete", found.delete)
    return found


SETTINGS: Any = SimpleNamespace(mode="safe")
CATALOG: Any = SimpleNamespace(plan=lambda _profile, _base: None)


def new(to: str) -> restore_new.RecoveredMachine:
    return restore_new.new("dev", "latest", to, CATALOG, SETTINGS, on_event=lambda _: None)


def prove() -> restore_test.RestoreTest:
    return restore_test.prove("dev", SETTINGS, CATALOG, on_event=lambda _: None)


def every_point(call: Callable[[int], object]) -> Iterator[int]:
    """Yield the number of each point after the kill there."""
    count, line = 0, 0
    while kills.at_line(line, partial(call, line), WATCHED):
        yield line
        count, line = count + 1, line + kills.STRIDE
    assert count >= 70 // kills.STRIDE


def test_a_new_machine_comes_of_it_wherever_the_call_before_was_killed(world: World) -> None:
    resumed = set()
    for line in every_point(lambda line: new(f"new{line}")):
        to = f"new{line}"
        before = pending.find(to)
        there = to in world.names()
        put = world.read(to)["put"] if there else 0
        if there and before is None:
            # All of it was done but to say so.
            with pytest.raises(RaveError, match=to):
                new(to)
            assert put == 1
            continue
        done = new(to)
        resumed.add(done.resumed)
        assert done.resumed == there
        twice = put == 1 and before is not None and not before.put
        assert world.read(to)["put"] == 1 + twice, "what is noted is not put again"
        assert pending.find(to) is None
        with pytest.raises(RaveError, match=to):
            new(to)
    assert resumed == {True, False}
    assert world.read("other") == {"instance": "9" * 32, "put": 0}


def test_a_restore_test_that_was_killed_anywhere_is_cleared_away_by_the_next(world: World) -> None:
    left = 0
    for _ in every_point(lambda _: prove()):
        left += len(world.names()) > 1
        assert prove().backup == BACKUP
        assert world.names() == ["other"]
        assert pending.left() == []
        noted = ledger.load("dev").restored
        assert noted is not None
        assert noted.well == noted.until
    assert left
