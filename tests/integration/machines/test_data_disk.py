"""The data disk with the real qemu-img, qemu-io and QEMU: whose it is, and that one writes it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import changes, cloning, disks, labels, lifecycle, snapshots, store
from rave_cli.machines.qemu.qmp import Qmp

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.machines.spec import Machine
    from tests.integration.machines.conftest import MakeMachine

ONE, OTHER = "1" * 32, "2" * 32


def run(*words: object) -> str:
    argv = [str(word) for word in words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def say(disk: Path, machine_id: str) -> None:
    """Write what a guest writes, as a guest does: through QEMU's block layer."""
    sector = disk.with_suffix(".sector")
    sector.write_bytes(f"rave-data 1 {machine_id}\n".encode().ljust(512, b"\0"))
    assert "wrote 512/512" in run("qemu-io", "-f", "qcow2", "-c", f"write -s {sector} 0 512", disk)
    sector.unlink()


def boot(machine: Machine) -> RaveError:
    """Start a tiny guest, which can never let anybody in; returns the error."""
    with pytest.raises(RaveError) as caught:
        lifecycle.start(machine, on_stage=lambda _: None, keep_running=True)
    return caught.value


@pytest.fixture
def image(base_image: Image, tmp_path: Path) -> Image:
    """The tiny guest's image, with an empty data disk that it never looks at."""
    data = tmp_path / "data.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", data, "64M")
    cmdline = "console=ttyS0 quiet loglevel=3 no_timer_check random.trust_cpu=on tiny.do=ready"
    return replace(base_image, data=data, boot=replace(base_image.boot, cmdline=cmdline))


def test_what_a_guest_writes_there_is_read_through_all_that_lies_below(tmp_path: Path) -> None:
    below, disk = tmp_path / "below.qcow2", tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", below, "64M")
    assert labels.of(below) is None
    say(below, ONE)
    assert labels.of(below) == ONE
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", below.name, "-F", "qcow2", disk)
    assert labels.of(disk) == ONE
    say(disk, OTHER)
    assert (labels.of(disk), labels.of(below)) == (OTHER, ONE)
    run("qemu-io", "-f", "qcow2", "-c", "write -z 0 64k", disk)
    assert labels.of(disk) is None
    packed = tmp_path / "packed.qcow2"
    run("qemu-img", "convert", "-c", "-O", "qcow2", below, packed)
    with pytest.raises(RaveError, match="not as any guest leaves it"):
        labels.of(packed)


def test_it_grows_is_kept_and_copied_while_one_machine_alone_writes_it(
    make: MakeMachine, image: Image
) -> None:
    first, second = make("", image=image), make("", name="second", image=image)
    changes.resize("tiny", disk_gib=2)
    assert "stopped at stage ssh-auth " in boot(store.load("tiny")).message
    changes.resize("tiny", disk_gib=3)
    with Qmp.connect(first.qmp_socket, timeout=5) as monitor:
        found = monitor.execute("query-block", timeout=5)
    sizes = [disk["inserted"]["image"]["virtual-size"] for disk in found]
    assert sizes == [64 << 20, 3 << 30]

    # Nobody's yet: by its label it could be of either.
    second.data_disk.unlink()
    second.data_disk.symlink_to(first.data_disk)
    error = boot(second)
    assert error.message.startswith("a disk of machine second is in use")
    assert error.exit_code == ExitCode.HOST
    assert str(second.data_disk) in str(error.hint)

    snapshots.create(store.load("tiny"), "now")
    lifecycle.stop(first)
    say(first.data_disk, first.spec.machine_id)
    assert "is the data disk of another machine" in boot(second).message
    copy = cloning.clone(store.load("tiny"), "copy", snapshot="now")
    assert disks.virtual_size(copy.data_disk) == 3 << 30
    assert copy.spec.data_of is None
    assert cloning.clone(store.load("tiny"), "other").spec.data_of == first.spec.machine_id
    run("qemu-img", "check", "-q", copy.data_disk)
