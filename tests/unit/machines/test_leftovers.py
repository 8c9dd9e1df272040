"""What dead machines and killed commands leave is found and removed, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli import nixstore, paths
from rave_cli.errors import ExitCode
from rave_cli.images.build import ImagePlace
from rave_cli.images.manifest import save_image
from rave_cli.machines import leftovers, lifecycle, store
from rave_cli.machines.spec import machines_dir
from tests.unit.machines.crashes import Crash
from tests.unit.machines.test_vm_commands import rave

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan
    from tests.unit.machines.conftest import Host
    from tests.unit.machines.fake_sshd import FakeSshd

    Rave = Callable[..., tuple[int, str, str]]

__all__ = ["rave"]


def start(machine: Machine) -> None:
    lifecycle.start(machine, on_stage=lambda _stage: None, deadline_scale=1)


def content(place: Path) -> dict[str, bytes]:
    """Return every file below a place, but for locks and sockets."""
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_on_a_tidy_host_there_is_nothing(rave: Rave, machine: Machine, sshd: FakeSshd) -> None:
    start(machine)
    assert rave("vm", "prune")[:2] == (0, "nothing to remove\n")
    assert json.loads(rave("vm", "prune", "--json", "--dry-run")[1]) == []


def test_the_sockets_of_a_machine_whose_qemu_was_killed_go_and_its_data_stays(
    rave: Rave, machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    assert not leftovers.find(images=False)
    lifecycle.kill(machine)
    before = content(machines_dir())
    (found,) = json.loads(rave("vm", "prune", "--yes", "--json")[1])
    assert (found["kind"], found["machine"], found["removed"]) == ("sockets", "demo", True)
    assert not machine.runtime.exists()
    assert content(machines_dir()) == before
    start(machine)
    lifecycle.kill(machine)


@pytest.mark.parametrize("step", range(10, 50, 10))
def test_a_half_created_machine_goes(
    rave: Rave, host: Host, plan: Plan, image: Image, step: int
) -> None:
    spec = store.new_spec(plan, image, name="half", mode="safe")
    assert Crash(step)(lambda: store.create(spec))
    shown = rave("vm", "prune", "--dry-run")
    assert shown[:2] == (0, "0 of 1 removed\n")
    assert "a command was killed while it created machine half" in shown[2]
    assert rave("vm", "prune", "--yes")[1] == "1 of 1 removed\n"
    assert [p for p in machines_dir().iterdir() if not p.name.endswith(".lock")] == []


def test_without_a_terminal_nothing_is_removed_unless_somebody_said_yes(
    rave: Rave, machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    lifecycle.kill(machine)
    code, _, err = rave("vm", "prune")
    assert code == ExitCode.USAGE
    assert "nobody can be asked here: Remove these 1?" in err
    assert machine.runtime.exists()


def test_what_another_command_is_busy_with_is_no_leftover(
    rave: Rave, machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    lifecycle.kill(machine)
    with store.locked("demo"):
        assert leftovers.find(images=False) == []
    (found,) = leftovers.find(images=False)
    start(machine)
    assert not leftovers.remove(found)
    assert machine.qmp_socket.exists()


def test_a_machine_of_another_data_directory_keeps_its_sockets_while_something_happens_there(
    machine: Machine, sshd: FakeSshd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(machine)
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "other"))
    assert leftovers.find(images=False) == []
    monkeypatch.delenv("XDG_DATA_HOME")
    lifecycle.kill(machine)
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "other"))
    assert leftovers.find(images=False) == []
    long_ago = machine.runtime.stat().st_mtime - leftovers.QUIET - 1
    os.utime(machine.runtime, (long_ago, long_ago))
    assert [found.place for found in leftovers.find(images=False)] == [machine.runtime]


def test_sockets_of_a_machine_whose_record_cannot_be_read_stay(
    machine: Machine, sshd: FakeSshd
) -> None:
    start(machine)
    lifecycle.kill(machine)
    (machine.directory / "machine.json").write_text("{")
    assert leftovers.find(images=False) == []


def test_what_is_not_rave_s_is_no_leftover(machine: Machine) -> None:
    for place in (paths.runtime_dir() / "mine", machines_dir() / ".new-thing",
                  machines_dir() / ".old-UPPER.abc"):  # fmt: skip
        place.mkdir(parents=True)
    shutil.copytree(machine.directory, machine.directory.with_name("copy"))
    assert leftovers.find(images=False) == []


@pytest.fixture
def two_images(image: Image, tmp_path: Path) -> tuple[ImagePlace, ImagePlace]:
    """An image that `demo` is made from, and one that nobody uses."""
    places = ImagePlace("demo-debian"), ImagePlace("other-debian")
    for place, store_path in zip(places, (image.store_path, str(tmp_path)), strict=True):
        save_image(replace(image, store_path=store_path), place.manifest)
        place.out_link.symlink_to(store_path)
    return places


def test_an_image_that_no_machine_is_made_from_is_given_up_if_that_is_asked(
    rave: Rave, machine: Machine, two_images: tuple[ImagePlace, ImagePlace]
) -> None:
    used, unused = two_images
    assert rave("vm", "prune", "--yes")[1] == "nothing to remove\n"
    (found,) = json.loads(rave("vm", "prune", "--images", "--yes", "--json")[1])
    assert (found["place"], found["removed"]) == (str(unused.manifest), True)
    assert used.manifest.exists()
    assert used.out_link.is_symlink()
    assert not unused.out_link.is_symlink()


def test_while_a_record_cannot_be_read_every_image_is_in_use(
    rave: Rave, machine: Machine, two_images: tuple[ImagePlace, ImagePlace]
) -> None:
    (machine.directory / "machine.json").write_text("{")
    assert rave("vm", "prune", "--images", "--yes")[1] == "nothing to remove\n"


def test_whatever_can_be_made_again_is_given_back(
    rave: Rave, machine: Machine, two_images: tuple[ImagePlace, ImagePlace]
) -> None:
    used, unused = two_images
    (found,) = json.loads(rave("prune", "--dry-run", "--json")[1])
    assert (found["kind"], found["removed"]) == ("image", False)
    said = rave("prune", "--yes")[1]
    assert said.startswith("1 of 1 removed; the host's Nix store keeps what they held until nix-")
    assert used.manifest.exists()
    assert not unused.out_link.is_symlink()
    assert rave("prune", "--yes")[1] == "nothing to remove\n"


@pytest.mark.parametrize(("status", "says"), [(0, "7 store paths deleted"), (1, "is locked")])
def test_a_store_of_raves_own_is_cleaned_too(
    rave: Rave, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, says: str
) -> None:
    store_of_ours = tmp_path / "own"
    store_of_ours.mkdir()
    monkeypatch.setattr(nixstore, "directory", lambda: store_of_ours)
    nix = tmp_path / "nix/nix-store"
    nix.parent.mkdir()
    told = f"echo {says}" + (f" >&2; exit {status}" if status else "")
    nix.write_text(f'#!/bin/sh\n[ "$*" = --gc ] || exit 9\n{told}\n')
    nix.chmod(0o755)
    monkeypatch.setenv("PATH", str(nix.parent), prepend=":")
    code, out, err = rave("prune", "--yes")
    if status:
        assert (code, out) == (ExitCode.HOST, "")
        assert f"Nix could not clean {store_of_ours}: is locked" in err
    else:
        assert out == "nothing to remove; Nix: 7 store paths deleted\n"
    # Nobody agreed to anything.
    assert "Nix" not in rave("prune", "--dry-run")[1]
