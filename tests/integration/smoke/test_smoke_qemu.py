"""The host's own looks with the real qemu-img, grep and QEMU."""

from __future__ import annotations

import hashlib
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from rave_cli import process
from rave_cli.images.manifest import BootMethod, Image
from rave_cli.machines.qemu import usernet
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.spec import Forward, Machine, MachineSpec
from rave_cli.profiles.source import load_catalog
from rave_cli.smoke import canaries, onhost, scan
from rave_cli.smoke.context import CheckContext
from rave_cli.smoke.operator import Operator
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

SECRET = "correct-horse-battery-staple"


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def context(tmp_path: Path) -> CheckContext:
    """A machine that was never started, with a real image and a real overlay on it."""
    store = tmp_path / "store"
    store.mkdir()
    qcow2 = store / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", qcow2, "64M")
    data = qcow2.read_bytes()
    image = Image(
        "demo", "debian", qcow2, hashlib.sha256(data).hexdigest(), len(data), str(store),
        "sha256-" + "A" * 43 + "=", BootMethod("disk", None, None, ""),
    )  # fmt: skip
    spec = MachineSpec(
        name="m", uuid=str(uuid4()), instance_id="i", profile="demo",
        base="debian", mode="safe", memory_mib=2048, cpus=2, disk_gib=1,
        forwards=(Forward(0, 22),), network="isolated", image=image,
    )  # fmt: skip
    for name in ("vm", "run"):
        (tmp_path / name).mkdir()
    machine = Machine(spec, tmp_path / "vm", tmp_path / "run")
    qemu_img("create", "-q", "-f", "qcow2", "-b", qcow2, "-F", "qcow2", machine.disk)
    plan = load_catalog(None).plan("demo", "debian")
    return CheckContext(machine, plan, image, {}, Operator(), {"redis/password": SECRET})


def test_the_overlay_is_what_qemu_img_says(context: CheckContext, tmp_path: Path) -> None:
    assert onhost.overlay(context).status == "pass"
    other = tmp_path / "other.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", other, "64M")
    qemu_img("rebase", "-u", "-b", other, "-F", "qcow2", context.machine.disk)
    assert onhost.overlay(context).detail == f"it lies on {other}"


def test_a_disk_that_is_gone_is_an_error(context: CheckContext) -> None:
    context.machine.disk.unlink()
    assert onhost.overlay(context).status == "error"


def test_a_secret_in_the_image_is_found(context: CheckContext, tmp_path: Path) -> None:
    assert canaries.image(context).status == "pass"
    raw = tmp_path / "raw"
    raw.write_bytes(b"\0" * (1 << 20) + SECRET.encode() + b"\0" * (1 << 20))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, context.image.qcow2)
    assert canaries.image(context).status == "fail"


def test_an_image_that_cannot_be_searched_does_not_pass(
    context: CheckContext, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(SECRET.encode() * 5000)
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", raw, context.image.qcow2)
    verdict = canaries.image(context)
    assert verdict.status == "error"
    assert "compressed clusters cannot be searched" in verdict.detail


@contextmanager
def qemu(machine: Machine) -> Iterator[None]:
    """Run a QEMU whose guest never answers anybody."""
    argv = [
        process.require("qemu-system-x86_64"), "-nodefaults", "-display", "none", "-S",
        "-machine", "q35", "-m", "64",
        "-netdev", "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
        "-device", "virtio-net-pci,netdev=net0,romfile=",
        "-chardev", f"socket,id=qmp,path={machine.qmp_socket},server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip
    with process.spawn(argv):
        yield


def connected(machine: Machine) -> Qmp:
    for _ in range(100):
        try:
            return Qmp.connect(machine.qmp_socket, timeout=CEILING)
        except QmpError:
            time.sleep(0.05)
    pytest.fail("QEMU's monitor does not answer")


def test_a_guest_that_answers_nobody_is_reached_on_no_port(context: CheckContext) -> None:
    with qemu(context.machine):
        with connected(context.machine) as monitor:
            before = usernet.parse(monitor.human("info usernet", timeout=CEILING))
        here = replace(context, ports={forward.guest: forward.host for forward in before})
        verdict = scan.ports(here, 0.5)
        with Qmp.connect(context.machine.qmp_socket, timeout=CEILING) as monitor:
            after = usernet.parse(monitor.human("info usernet", timeout=CEILING))
    assert "can be reached" not in verdict.detail
    assert "the exposed port 22 does not answer" in verdict.detail
    assert len(verdict.data["tried"]) > 20
    assert after == before, "a temporary forward was left behind"
