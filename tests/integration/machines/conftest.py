"""Real QEMU with the tiny guest: a boot in seconds, without a distribution in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from rave_cli import paths
from rave_cli.images.manifest import BootMethod, Image
from rave_cli.machines import store
from rave_cli.machines.qemu import accelerator, processes
from rave_cli.profiles.catalog import Plan, parse
from rave_cli.profiles.names import BAKED
from tests.integration.machines import tiny_guest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.qemu.accelerator import Accelerator
    from rave_cli.machines.spec import Forward, Machine, Network


class MakeMachine(Protocol):
    """Makes a machine whose guest does `do`; see guest.c."""

    def __call__(
        self,
        do: str,
        *,
        name: str = "tiny",
        network: Network = "isolated",
        forwards: tuple[Forward, ...] = (),
        image: Image | None = None,
    ) -> Machine: ...


@pytest.fixture(scope="session")
def guest() -> tuple[Path, Path]:
    """Kernel and initramfs of the tiny guest, kept in the user's cache between runs."""
    try:
        return tiny_guest.build(paths.cache_dir() / "tests" / "tiny-guest")
    except tiny_guest.UnavailableError as error:
        pytest.fail(f"no tiny guest: {error}; make host-test installs what it takes")


@pytest.fixture(scope="session")
def found() -> Accelerator:
    """The accelerator of this host, asked once for all tests."""
    return accelerator.detect()


@pytest.fixture(scope="session")
def plan() -> Plan:
    """The demo profile on the Debian base."""
    return parse(BAKED.read_bytes()).plan("demo", "debian")


@pytest.fixture
def base_image(tmp_path: Path, guest: tuple[Path, Path]) -> Image:
    """An empty disk that the tiny guest never looks at."""
    qcow2 = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(qcow2), "64M"], check=True)
    kernel, initrd = guest
    return Image(
        profile="demo",
        base="debian",
        qcow2=qcow2,
        sha256="0" * 64,
        size=qcow2.stat().st_size,
        store_path="",
        nar_hash=f"sha256-{'A' * 43}=",
        boot=BootMethod("kernel", kernel, initrd, ""),
    )


@pytest.fixture
def small_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 4 MiB for the machines."""
    place = home / "small"
    place.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    # A host of fakes has neither.
    umount = shutil.which("umount") or "umount"
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this root may not mount a tmpfs")
    monkeypatch.setenv("XDG_DATA_HOME", str(place))
    yield place
    subprocess.run([umount, "--lazy", str(place)], check=True)


@pytest.fixture
def make(
    home: Path,
    base_image: Image,
    found: Accelerator,
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[MakeMachine]:
    """Make machines in a home of their own; whatever still runs at the end is killed."""
    runtime = Path(tempfile.mkdtemp(prefix="rv-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr(accelerator, "detect", lambda **_: found)
    made: list[Machine] = []

    def make_machine(
        do: str,
        *,
        name: str = "tiny",
        network: Network = "isolated",
        forwards: tuple[Forward, ...] = (),
        image: Image | None = None,
    ) -> Machine:
        cmdline = f"console=ttyS0 quiet loglevel=3 no_timer_check random.trust_cpu=on {do}"
        tiny = replace(base_image, boot=replace(base_image.boot, cmdline=cmdline))
        spec = store.new_spec(
            plan, image or tiny, name=name, mode="safe", memory_mib=256, disk_gib=1,
            network=network, forwards=forwards,
        )  # fmt: skip
        made.append(store.create(spec))
        return made[-1]

    yield make_machine
    for machine in made:
        running = processes.find(machine)
        if running is not None:
            os.kill(running.pid, signal.SIGKILL)
    shutil.rmtree(runtime)
