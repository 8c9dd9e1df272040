"""What `rave vm list` costs with 20 running machines, as a whole process.

The machines' QEMU is the stand-in of the unit tests, which answers on its monitor as QEMU does;
`import click` in the same run says how fast the host is.

Usage: python -m benchmarks.bench_list [ROUNDS]
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.unit.machines.conftest import FAKE_QEMU_IMG, HEALTHY, HERE, Behaviour, Host

from benchmarks.measure import paired, report, wall
from rave_cli import paths
from rave_cli.images.manifest import BootMethod, Image
from rave_cli.machines import boot, preflight, store
from rave_cli.machines.qemu import credentials
from rave_cli.machines.qemu.accelerator import Accelerator
from rave_cli.machines.qemu.argv import qemu_argv
from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES = 20
LIMIT = 0.35  # seconds


def main(rounds: int = 15) -> int:
    """Print the figures; exit with 1 if the list takes longer than LIMIT at the median."""
    with running(MACHINES):
        rave = str(Path(sys.executable).with_name("rave"))
        figures = paired(
            lambda: wall([rave, "vm", "list", "--json"]),
            lambda: wall([sys.executable, "-c", "import click"]),
            rounds,
        )
    report("list", {"machines": MACHINES, "rave vm list": figures["first"],
                    "import click": figures["second"], "limit": LIMIT})  # fmt: skip
    return int(figures["first"]["p50"] > LIMIT)


@contextmanager
def running(count: int) -> Iterator[None]:
    """Have machines in a home of their own for as long as the context lasts."""
    # What stands for QEMU takes none of the memory that a machine is promised.
    preflight.available_mib = lambda: None
    place = Path(tempfile.mkdtemp(prefix="rv-", dir="/tmp"))
    os.environ |= {"HOME": str(place), "XDG_RUNTIME_DIR": str(place / "run")}
    for name in ("DATA", "STATE", "CONFIG", "CACHE"):
        os.environ.pop(f"XDG_{name}_HOME", None)
    pids: list[int] = []
    try:
        start(place, count, pids)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(place)


def start(place: Path, count: int, pids: list[int]) -> None:
    """Make machines and start a stand-in for the QEMU of each, whose pid is added to `pids`."""
    tools = place / "bin"
    tools.mkdir()
    fake = f"#!{sys.executable} -ISE\n{(HERE / 'fake_qemu.py').read_text()}"
    for name, text in {"qemu-system-x86_64": fake, "qemu-img": FAKE_QEMU_IMG}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
    host = Host(tools, Behaviour())
    host.behave(steps=HEALTHY, ports={22: 9, 3002: 10})
    qcow2 = place / "image.qcow2"
    qcow2.write_bytes(b"QFI\xfb" + bytes(20) + (1 << 30).to_bytes(8))
    plan = parse(BAKED.read_bytes()).plan("demo", "debian")
    image = Image(
        "demo", "debian", qcow2, "0" * 64, qcow2.stat().st_size, "",
        f"sha256-{'A' * 43}=", BootMethod("kernel", qcow2, qcow2, ""),
    )  # fmt: skip
    for number in range(count):
        spec = store.new_spec(plan, image, name=f"bench-{number:02}", mode="safe")
        machine = store.create(spec)
        paths.private_dir(machine.runtime)
        with credentials.written(machine):
            argv = qemu_argv(machine, Accelerator("tcg", "a stand-in", 1.0))
            begun = boot.spawn(machine, argv)
            pids.append(begun.pid)
            while not machine.event_socket.exists():
                time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
