"""The guest's own look at whose a data disk is: the last one, wherever the host did not look."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OWN, OTHER = "1" * 32, "2" * 32


def boot_beside(data: Path, output: Path) -> str:
    """Boot the image of a build's output with a data disk until it ends, and return its console."""
    system = data.with_name("system.qcow2")
    (image,) = output.glob("rave-*.qcow2")
    create = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", system)
    subprocess.run(create, check=True)
    cmdline = json.loads((output / "boot.json").read_text())["cmdline"]
    words: list[str | Path] = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "q35", "-accel", "tcg", "-m", "256", "-serial", "stdio",
        "-kernel", output / "vmlinuz", "-initrd", output / "initrd",
        "-append", f"{cmdline} panic=-1 rave_data={OWN}",
        "-drive", f"if=virtio,file={system}", "-drive", f"if=virtio,file={data}",
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=True)
    return done.stdout.decode(errors="replace")


def test_a_guest_mounts_no_data_of_another_machine(site: Site, demo: str, tmp_path: Path) -> None:
    output = Path(site.json("vm", "status", demo)["image"]["storePath"])
    sector, data = tmp_path / "sector", tmp_path / "data.qcow2"
    sector.write_bytes(f"rave-data 1 {OTHER}\n".encode().ljust(512, b"\0"))
    data.write_bytes((output / "data.qcow2").read_bytes())
    write = ("qemu-io", "-f", "qcow2", "-c", f"write -s {sector} 0 512", data)
    subprocess.run(write, check=True, capture_output=True)
    before = hashlib.sha256(data.read_bytes()).digest()
    console = boot_beside(data, output)
    assert "/dev/vdb is the data disk of another machine" in console
    assert "Attempted to kill init" in console
    assert "systemd" not in console.replace("systemd.", "")
    assert hashlib.sha256(data.read_bytes()).digest() == before
