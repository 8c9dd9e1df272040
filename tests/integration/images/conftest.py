"""The demo image on the Debian base, built by the real Nix into a state directory of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli import paths
from rave_cli.images.build import build_image
from rave_cli.images.manifest import Image  # noqa: TC001 - a fixture returns it
from rave_cli.images.nix import Nix
from rave_cli.profiles.catalog import Plan, parse
from rave_cli.profiles.names import BAKED

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def plan() -> Plan:
    """The plan of the demo profile on the Debian base."""
    return parse(BAKED.read_bytes()).plan("demo", "debian")


@pytest.fixture(scope="session")
def flake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what an image is made of, so that nobody's edits change it while tests run."""
    folder = tmp_path_factory.mktemp("flake")
    shutil.copytree(ROOT / "infra", folder / "infra", symlinks=True)
    shutil.copytree(ROOT / "src/rave_guest", folder / "src/rave_guest")
    for name in ("flake.nix", "flake.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def built(
    plan: Plan, flake: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Image, Nix, str]]:
    """The image, the driver and the installable it was built from."""
    patch = pytest.MonkeyPatch()
    state = tmp_path_factory.mktemp("state")
    patch.setenv("XDG_STATE_HOME", str(state))
    image = build_image(plan, flake=flake, mode="safe")
    own = paths.state_dir() / "images/locks/demo.json"
    patch.undo()
    yield image, Nix("debian", "safe", own if own.exists() else None), f"{flake}#{plan.attr}"
    # Whatever failed: the roots in it would keep the image in the Nix store.
    shutil.rmtree(state)


@pytest.fixture(scope="session")
def disk(built: tuple[Image, Nix, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image as a raw file, as qemu-img reads it."""
    raw = tmp_path_factory.mktemp("disk") / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", built[0].qcow2, raw], check=True)
    yield raw
    raw.unlink()


@pytest.fixture(scope="session")
def data(built: tuple[Image, Nix, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its first data disk, in the same way."""
    raw = tmp_path_factory.mktemp("data") / "data.raw"
    assert built[0].data is not None
    subprocess.run(["qemu-img", "convert", "-O", "raw", built[0].data, raw], check=True)
    yield raw
    raw.unlink()
