"""A host made of fakes: QEMU, qemu-img and sshd, so that whole lifecycles take milliseconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.images.manifest import BootMethod, Image
from rave_cli.machines import store
from rave_cli.machines.qemu import accelerator, processes
from rave_cli.machines.qemu.accelerator import Accelerator
from rave_cli.profiles.catalog import Plan, parse
from rave_cli.profiles.names import BAKED
from tests.disks import qcow2 as empty_disk
from tests.unit.machines.fake_sshd import FakeSshd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine

HERE = Path(__file__).parent
TCG = Accelerator("tcg", "the tests say so", 0.064)

# What a healthy guest does, as steps of the fake.
HEALTHY: list[dict[str, Any]] = [
    {"console": "Linux version 6.1\r\n"},
    {"report": {"stage": "systemd"}},
    {"report": {"stage": "sshd"}},
    {
        "report": {
            "stage": "services",
            "services": {
                "postgresql": {"state": "healthy", "unit": "postgresql.service", "uptime": 1.2},
                "nginx": {"state": "healthy", "unit": "nginx.service", "uptime": 1.1},
            },
            "secrets": "absent",
        }
    },
]

# A qcow2 header as far as rave reads it: magic, version, where the name below is and its length (a
# hole for the shell), and where a table of clusters is, which is empty.
HEADER = "QFI\\373" + "\\000" * 3 + "\\003" + "\\000" * 7 + "\\160" + "\\000" * 3
HEADER += "%b" + "\\000" * 27 + "\\150" + "\\000" * 64

FAKE_QEMU_IMG = f"""#!/bin/sh
# Writes nothing but the file that is asked for, with the name of the one below in its place of a
# qcow2 header; fails as behaviour says.
fault="$(dirname "$0")/qemu-img-fault"
if [ -e "$fault" ]; then cat "$fault" >&2; exit 1; fi
for word; do [ "$last" = -b ] && below="$word"; last2="$last"; last="$word"; done
if [ -n "$below" ]; then
    printf '{HEADER}%s' "\\0$(printf %03o ${{#below}})" "$below" > "$last2"
fi
printf 'overlay of %s' "$last" >> "$last2"
"""


@dataclass
class Behaviour:
    """What the fake QEMU does; see fake_qemu.py."""

    steps: list[dict[str, Any]] = field(default_factory=lambda: list(HEALTHY))
    ports: dict[int, int] = field(default_factory=dict)
    # The same by instance id, where machines differ.
    each: dict[str, dict[int, int]] = field(default_factory=dict)
    greet: bool = True
    slow: float = 0.0
    status: str = "running"
    powerdown: bool = True
    quit: bool = True
    sigterm: bool = True
    stderr: str = ""
    dies: int | None = None
    migration: str = "completed"
    channel: str = ""
    # Seconds until the guest of a copy reports its services.
    wakes: float = 0.0
    version: tuple[int, int, int] = (7, 2, 22)
    # Whether its guest serves the channel; whoever says so listens there.
    command: bool = False


@dataclass
class Host:
    """The fake host: where its tools are and how its QEMU behaves."""

    bin: Path
    behaviour: Behaviour = field(default_factory=Behaviour)

    def behave(self, **changes: Any) -> None:
        """Change what the next QEMU does."""
        for name, value in changes.items():
            setattr(self.behaviour, name, value)
        (self.bin / "behaviour.json").write_text(json.dumps(asdict(self.behaviour)))

    def break_qemu_img(self, message: str) -> None:
        """Let qemu-img fail."""
        (self.bin / "qemu-img-fault").write_text(message)


@pytest.fixture
def short_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose runtime directory is short enough for sockets."""
    runtime = Path(tempfile.mkdtemp(prefix="rv-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    yield home
    shutil.rmtree(runtime)


@pytest.fixture
def host(short_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Put the fakes on PATH, alone with sh; end whatever they left running."""
    tools = tmp_path / "bin"
    tools.mkdir()
    script = (HERE / "fake_qemu.py").read_text()
    for name, text in {
        "qemu-system-x86_64": f"#!{sys.executable} -ISE\n{script}",
        "qemu-img": FAKE_QEMU_IMG,
    }.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    for name in ("sh", "cat", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(accelerator, "detect", lambda **_: TCG)
    fake = Host(tools)
    fake.behave()
    yield fake
    for process in running_fakes(tools):
        os.kill(process, signal.SIGKILL)


def running_fakes(tools: Path) -> list[int]:
    """Return the pids of the fake QEMUs of one test."""
    found = []
    for entry in processes.PROC.iterdir():
        argv = processes._argv(entry) if entry.name.isdigit() else ()
        if str(tools / "qemu-system-x86_64") in argv:
            found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def plan() -> Plan:
    """The demo profile on the Debian base, as the package carries it."""
    return parse(BAKED.read_bytes()).plan("demo", "debian")


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image of a few bytes that says it holds disks of 1 GiB, for the system and for data."""
    qcow2, data = tmp_path / "image.qcow2", tmp_path / "data.qcow2"
    qcow2.write_bytes(b"QFI\xfb" + bytes(20) + (1 << 30).to_bytes(8))
    data.write_bytes(empty_disk())
    for name in ("vmlinuz", "initrd"):
        (tmp_path / name).touch()
    return Image(
        profile="demo",
        base="debian",
        qcow2=qcow2,
        sha256="0" * 64,
        size=qcow2.stat().st_size,
        store_path="/nix/store/none",
        nar_hash=f"sha256-{'A' * 43}=",
        boot=BootMethod("kernel", tmp_path / "vmlinuz", tmp_path / "initrd", "quiet"),
        data=data,
    )


@pytest.fixture
def machine(host: Host, plan: Plan, image: Image) -> Machine:
    """A machine that exists and was never started."""
    return store.create(store.new_spec(plan, image, name="demo", mode="safe"))


@pytest.fixture
def sshd(machine: Machine, host: Host) -> Iterator[FakeSshd]:
    """The machine's sshd, which the fake QEMU forwards to."""
    public = machine.login_key.with_suffix(".pub").read_text().split()[1]
    with FakeSshd(machine.host_key.read_bytes(), public) as server:
        host.behave(ports={22: server.port, 3002: 9})
        yield server
