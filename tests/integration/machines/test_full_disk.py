"""A file system that is full before, or fills while, something of a machine is put on it.

Whoever asks first whether there is room is told that there is: what counts is what comes then.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import changes, cloning, lifecycle, snapshots, status, store, suspend
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.machines.spec import machines_dir
from rave_cli.machines.templates import kept, making
from tests.unit.machines.conftest import host, image, machine, running_fakes, short_home, sshd
from tests.unit.machines.test_templates import _no_settling, quiet, spec, sshd_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine, MachineSpec
    from tests.unit.machines.conftest import Host

__all__ = ["_no_settling", "host", "image", "machine", "short_home", "spec", "sshd", "sshd_of"]

pytestmark = pytest.mark.integration

# KiB of a machine's disk, and KiB that are left free, one after the other.
DISK = 512
LEFT = (0, 8, 64, 512, 520)


def room_left(place: Path, do: Callable[[], object]) -> Iterator[RaveError | None]:
    """Yield what is said when something is done with ever more room; in the end it succeeds."""
    filler = place / "filler"
    for kib in (*LEFT, None):
        if kib is not None:
            free = os.statvfs(place)
            filler.write_bytes(bytes(max(free.f_bavail * free.f_frsize - (kib << 10), 0)))
        told = None
        try:
            do()
        except RaveError as error:
            told = error
        finally:
            filler.unlink(missing_ok=True)
        assert kib is not None or told is None, told
        yield told


def is_a_full_disk(told: RaveError) -> bool:
    return told.exit_code == ExitCode.HOST and "no space left" in told.message


@pytest.fixture
def small(
    small_disk: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The small file system, with a machine on it."""
    there: Machine = request.getfixturevalue("machine")
    there.disk.write_bytes(os.urandom(DISK << 10))
    # Another program may fill the disk after we have looked.
    monkeypatch.setattr(suspend, "refuse_full_disk", lambda *_words: None)
    return small_disk


def test_a_clone_that_does_not_fit_is_none(small: Path, machine: Machine) -> None:
    disk = machine.disk.read_bytes()
    said = []
    for told in room_left(small, lambda: cloning.clone(machine, "second")):
        said.append(told)
        assert machine.disk.read_bytes() == disk
        if told is not None:
            assert is_a_full_disk(told), told
            assert stored_names() == ["demo"]
            assert [path.name for path in machines_dir().iterdir() if path.is_dir()] == ["demo"]
        else:
            assert store.load("second").disk.read_bytes() == disk
            lifecycle.delete("second")
    assert said[0] is not None


def test_a_snapshot_that_does_not_fit_is_none_and_the_guest_goes_on(
    small: Path, machine: Machine, sshd: object
) -> None:
    lifecycle.start(machine, on_stage=quiet)
    disk = machine.disk.read_bytes()
    said = []
    for told in room_left(small, lambda: snapshots.create(machine, "one")):
        said.append(told)
        with Qmp.connect(machine.qmp_socket, timeout=5) as monitor:
            assert monitor.execute("query-status", timeout=5)["running"]
        assert status.of(machine).state == "running"
        assert machine.disk.read_bytes() == disk
        if told is not None:
            assert is_a_full_disk(told), told
            assert snapshots.names(machine) == []
            folder = snapshots.folder(machine)
            assert not folder.exists() or not list(folder.iterdir())
        else:
            assert snapshots.load(machine, "one").record.state is not None
            snapshots.delete(machine, "one")
    assert said[0] is not None


def test_a_snapshot_that_cannot_be_put_back_leaves_what_there_is(
    small: Path, machine: Machine, sshd: object
) -> None:
    lifecycle.start(machine, on_stage=quiet)
    snapshots.create(machine, "one")
    before = machine.disk.read_bytes()
    lifecycle.stop(machine)
    machine.disk.write_bytes(b"changed")
    said = []
    for told in room_left(small, lambda: snapshots.restore(machine, "one")):
        said.append(told)
        if told is not None:
            assert is_a_full_disk(told), told
            assert machine.disk.read_bytes() == b"changed"
            assert status.of(machine).state == "stopped"
        else:
            assert machine.disk.read_bytes() == before
            assert status.of(machine).state == "suspended"
            suspend.give_up(machine)
            machine.disk.write_bytes(b"changed")
    assert said[0] is not None


def test_a_memory_that_does_not_fit_lets_the_guest_go_on(
    small: Path, machine: Machine, sshd: object
) -> None:
    lifecycle.start(machine, on_stage=quiet)
    said = []
    for told in room_left(small, lambda: suspend.suspend(machine)):
        said.append(told)
        if told is not None:
            assert is_a_full_disk(told), told
            assert status.of(machine).state == "running"
            assert not machine.suspended.exists()
        else:
            assert status.of(machine).state == "suspended"
            suspend.resume(machine)
    assert said[0] is not None


def test_a_record_that_cannot_be_written_changes_nothing(small: Path, machine: Machine) -> None:
    for told in room_left(small, lambda: changes.resize("demo", memory_mib=1024)):
        found = store.load("demo").spec.memory_mib
        assert found == (1024 if told is None else machine.spec.memory_mib)
        changes.resize("demo", memory_mib=machine.spec.memory_mib)


def test_a_template_that_does_not_fit_is_none(
    small_disk: Path, spec: MachineSpec, sshd_of: object, host: Host
) -> None:
    said = []
    for told in room_left(small_disk, lambda: making.make(spec, on_stage=quiet)):
        said.append(told)
        assert not running_fakes(host.bin)
        assert not kept.drafts()
        if told is not None:
            assert kept.names() == []
        for name in kept.names():
            kept.verify(kept.load(name))
            kept.delete(name)
    assert said[0] is not None
