"""A machine, its plan and its image as values; nothing of it runs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from rave_cli.images.manifest import BootMethod, Image
from rave_cli.machines.spec import Forward, Machine, MachineSpec
from rave_cli.profiles.source import load_catalog

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.profiles.catalog import Plan

DISK = b"QFI\xfb" + b"\0" * 60


@pytest.fixture(scope="session")
def plan() -> Plan:
    return load_catalog(None).plan("demo", "debian")


@pytest.fixture
def image(tmp_path: Path) -> Image:
    store = tmp_path / "store"
    store.mkdir()
    qcow2 = store / "rave-demo-debian.qcow2"
    qcow2.write_bytes(DISK)
    qcow2.chmod(0o444)
    return Image(
        profile="demo",
        base="debian",
        qcow2=qcow2,
        sha256=hashlib.sha256(DISK).hexdigest(),
        size=len(DISK),
        store_path=str(store),
        nar_hash="sha256-" + "A" * 43 + "=",
        boot=BootMethod("disk", None, None, ""),
        door=2,
    )


@pytest.fixture
def machine(tmp_path: Path, image: Image) -> Machine:
    spec = MachineSpec(
        name="m",
        uuid=str(uuid4()),
        instance_id="c0ffee",
        profile="demo",
        base="debian",
        mode="safe",
        memory_mib=2048,
        cpus=2,
        disk_gib=12,
        forwards=(Forward(0, 22), Forward(0, 3002)),
        network="isolated",
        image=image,
    )
    for name in ("vm", "run"):
        (tmp_path / name).mkdir()
    return Machine(spec, tmp_path / "vm", tmp_path / "run")
