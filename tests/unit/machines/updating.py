"""Two images that differ, as the tests of updates have them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.images import carried
from rave_cli.images.carried import Carried
from tests.disks import qcow2

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.profiles.catalog import Plan


@pytest.fixture
def planned(image: Image, plan: Plan, tmp_path: Path) -> Image:
    """The image with its plan, as those of today have."""
    carried.write(tmp_path / "plan-old.json", Carried(door=2, plan=plan))
    return replace(image, plan=tmp_path / "plan-old.json")


@pytest.fixture
def newer(planned: Image, plan: Plan, tmp_path: Path) -> Image:
    """Another image of the same profile."""
    place = tmp_path / "newer"
    place.mkdir()
    (place / "image.qcow2").write_bytes(qcow2())
    # As large as the machine's is to be: the fake qemu-img grows nothing.
    (place / "data.qcow2").write_bytes(qcow2(plan.resources.safe.disk_gib << 30))
    carried.write(place / "plan.json", Carried(door=2, plan=plan))
    return replace(
        planned,
        qcow2=place / "image.qcow2",
        sha256="1" * 64,
        size=(place / "image.qcow2").stat().st_size,
        plan=place / "plan.json",
        data=place / "data.qcow2",
        store_path="/nix/store/newer",
    )
