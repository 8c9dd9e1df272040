"""What an idle machine costs its host: processor time, wake-ups and memory.

Usage: python -m benchmarks.bench_idle [SECONDS] [SETTLE] [PROFILE] [BASE]

The image must have been built. A new machine is started, left alone for SETTLE seconds after its
services are healthy, and then watched for SECONDS; within a minute each target is scraped once.
Processor time is that of the QEMU process; on a loaded host each wake-up costs more of it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import report
from rave_cli import paths
from rave_cli.images.build import existing_image
from rave_cli.machines import lifecycle, store
from rave_cli.machines.guest import connection
from rave_cli.machines.qemu import accelerator, processes
from rave_cli.profiles.source import load_catalog

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

# Percent of one processor, and how much more than the guest uses QEMU may hold of it.
LIMITS = {"processor percent": 3.0, "guest memory ratio": 1.4}
MEMINFO = ("cat", "/proc/meminfo")


def wakes(pid: int) -> int:
    """Return how often the threads of a process went to sleep by themselves; proc(5)."""
    total = 0
    for status in (processes.PROC / str(pid) / "task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def resident(pid: int, guest_mib: int) -> tuple[int, int]:
    """Return the MiB that a QEMU holds: in all, and of its guest's memory.

    The guest's memory is the one mapping of that size; proc_pid_smaps(5).
    """
    total = guest = size = 0
    for line in (processes.PROC / str(pid) / "smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "Size":
            size = int(rest.split()[0]) >> 10
        elif name == "Rss":
            total += int(rest.split()[0])
            guest += int(rest.split()[0]) if size == guest_mib else 0
    return total >> 10, guest >> 10


def used_mib(machine: Machine) -> int:
    """Return the MiB that the guest uses, what it caches of its disk included; proc_meminfo(5)."""
    with connection.connect(machine) as session:
        text = session.run(MEMINFO, timeout=30).text
    found = {name: int(rest.split()[0]) for name, _, rest in
             (line.partition(":") for line in text.splitlines())}  # fmt: skip
    return (found["MemTotal"] - found["MemFree"]) >> 10


def watch(machine: Machine, seconds: float) -> dict[str, float]:
    """Watch an idle machine; return its figures."""
    running = processes.find(machine)
    if running is None:
        raise SystemExit("QEMU is gone")
    before, woken, began = running.cpu_seconds, wakes(running.pid), time.monotonic()
    time.sleep(seconds)
    spent, woken = time.monotonic() - began, wakes(running.pid) - woken
    now = processes.find(machine)
    if now is None or now.pid != running.pid:
        raise SystemExit("QEMU ended meanwhile")
    cpu = now.cpu_seconds - before
    total, guest = resident(running.pid, machine.spec.memory_mib)
    used = used_mib(machine)
    return {
        "seconds": round(spent, 1),
        "processor percent": round(100 * cpu / spent, 2),
        "wake-ups per second": round(woken / spent, 1),
        "resident MiB": total,
        "of the guest MiB": guest,
        "guest uses MiB": used,
        "guest memory ratio": round(guest / used, 2),
    }


def main(seconds: int = 60, settle: int = 60, profile: str = "demo", base: str = "debian") -> int:
    """Print the figures; exit with 1 if one is above its limit under TCG."""
    plan = load_catalog(Path.cwd()).plan(profile, base)
    image = existing_image(plan)
    if image is None:
        sys.stderr.write(f"no image: rave vm build-image --profile {profile} --base {base}\n")
        return 2
    found = accelerator.detect()
    with tempfile.TemporaryDirectory(prefix="rave-bench-", dir=paths.cache_dir()) as place:
        os.environ["XDG_DATA_HOME"] = place
        machine = store.create(store.new_spec(plan, image, name="bench", mode="safe"))
        try:
            lifecycle.start(machine, on_stage=lambda _: None)
            time.sleep(settle)
            figures = watch(machine, seconds)
        finally:
            lifecycle.delete(machine.name, force=True)
    report("idle", {"accelerator": found.document, "limits": LIMITS, "figures": figures})
    above = [name for name, limit in LIMITS.items() if figures[name] > limit]
    return int(bool(above) and found.kind == "tcg")


if __name__ == "__main__":
    sys.exit(main(*(int(word) if word.isdigit() else word for word in sys.argv[1:])))  # type: ignore[arg-type]
