"""What a start from a template costs: until the first answered command, ready, and many at once.

Usage: python -m benchmarks.bench_warm [ROUNDS] [CLONES] [PROFILE]

The image must have been built. A template is made in a directory of its own, which is the cold boot
that the others are compared with; then ROUNDS machines are started from it one after the other and
deleted, and then CLONES at once, which all run until the last has answered. Every start includes
loading and all that makes the machine itself, as with `rave vm launch-local --warm --no-wait`; of
those at once also making their disks. Figures in seconds and MiB; wall-clock figures need an idle
host.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import report, summary
from rave_cli import paths
from rave_cli.images.build import existing_image
from rave_cli.machines import boot, lifecycle, store
from rave_cli.machines.guest import command
from rave_cli.machines.guest.readiness import WARM, Readiness
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import accelerator, caps, processes
from rave_cli.machines.templates import making, warm
from rave_cli.profiles.source import load_catalog

if TYPE_CHECKING:
    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.spec import Machine, MachineSpec
    from rave_cli.machines.templates.kept import MachineTemplate
    from rave_cli.profiles.catalog import Plan

LIMITS = {"first command": 0.6, "times faster": 20.0, "clones": 8.0, "private MiB": 85.0}
UUID = ("cat", "/proc/sys/kernel/random/uuid")


@dataclass
class Bench:
    """What machines are made of."""

    plan: Plan
    image: Image
    template: MachineTemplate

    def spec(self, name: str) -> MachineSpec:
        """Return a machine of that name."""
        return store.new_spec(self.plan, self.image, name=name, mode="safe")

    def start(self, name: str, *, wait: bool) -> tuple[Machine, dict[str, float], str]:
        """Start a machine; returns what it took, and a random number of its kernel's."""
        found, figures = accelerator.detect(), {}
        began = time.monotonic()
        machine = warm.create(self.spec(name), self.template)
        figures["create"] = time.monotonic() - began
        readiness = Readiness(name, machine.spec.instance_id, scale=5, on_stage=quiet, stages=WARM)
        cap = caps.choose(machine.spec, found.kind)
        with store.locked(name):
            restored = warm.restore(machine, self.template, found, cap, readiness, runs_next=True)
        figures["itself"] = restored.seconds
        figures["private MiB"] = private_mib(machine)
        with command.connect(machine) as channel:
            said = channel.run(UUID, timeout=30).stdout.decode().strip() if channel else ""
        figures["first command"] = time.monotonic() - began - figures["create"]
        figures["with disk and keys"] = time.monotonic() - began
        if wait:
            boot.watch(restored.boot, readiness)
            figures["private MiB, ready"] = private_mib(machine)
            figures |= {s.name: s.seconds for s in readiness.reached if s.name != "qemu"}
        return machine, figures, said


def quiet(_stage: Reached) -> None:
    """Nobody is told."""


def private_mib(machine: Machine) -> float:
    """Return the MiB that a machine's QEMU has written, and so to itself (proc_pid_smaps(5)).

    What it only reads of the template's file is the page cache's, once for all of them.
    """
    running = processes.find(machine)
    if running is None:
        return 0.0
    text = (processes.PROC / str(running.pid) / "smaps_rollup").read_text()
    fields = dict(line.split()[:2] for line in text.splitlines()[1:])
    return int(fields["Private_Dirty:"]) / 1024


def one_by_one(bench: Bench, rounds: int) -> dict[str, dict[str, float]]:
    """Start machines one after the other until they are ready; each is deleted then."""
    found = []
    for number in range(rounds):
        machine, figures, _ = bench.start(f"round{number}", wait=True)
        found.append(figures)
        lifecycle.delete(machine.name, force=True)
    return {name: summary([figures[name] for figures in found]) for name in found[0]}


def together(bench: Bench, clones: int) -> dict[str, Any]:
    """Start machines at once; the figures of each, the time for all, and how many differ."""
    names = [f"clone{number}" for number in range(clones)]
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(clones) as pool:
            started = list(pool.map(lambda name: bench.start(name, wait=False), names))
        seconds = time.monotonic() - began
    finally:
        for name in stored_names():
            lifecycle.delete(name, force=True)
    return {
        "clones": round(seconds, 3),
        "different": len({said for _, _, said in started}),
        "first command": summary([figures["first command"] for _, figures, _ in started]),
        "private MiB": summary([figures["private MiB"] for _, figures, _ in started]),
    }


def main(rounds: int = 10, clones: int = 10, profile: str = "demo") -> int:
    """Print the figures; exit with 1 if one is beyond its limit under TCG."""
    plan = load_catalog(Path.cwd()).plan(profile, "debian")
    image = existing_image(plan)
    if image is None:
        sys.stderr.write(f"no image: rave vm build-image --profile {profile} --base debian\n")
        return 2
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="rave-bench-", dir=paths.cache_dir()) as place:
        os.environ["XDG_DATA_HOME"] = place
        spec = store.new_spec(plan, image, name="bench", mode="safe")
        began = time.monotonic()
        template = making.make(spec, on_stage=quiet)
        made = time.monotonic() - began
        bench = Bench(plan, image, template)
        singly = one_by_one(bench, rounds)
        many = together(bench, clones)
    cold = template.record.boot_seconds
    first = singly["first command"]
    figures = {
        "cold boot": round(cold, 3), "making": round(made, 3), "one by one": singly,
        "together": many, "times faster": round(cold / first["p50"], 1),
    }  # fmt: skip
    told = {"accelerator": accelerator.detect().document, "load before": load, "limits": LIMITS}
    report("warm", {**told, "figures": figures})
    private = many["private MiB"]
    good = (
        first["p50"] <= LIMITS["first command"]
        and cold / first["p50"] >= LIMITS["times faster"]
        and many["clones"] <= LIMITS["clones"]
        and private["max"] <= LIMITS["private MiB"]
        and many["different"] == clones
    )
    return int(not good and accelerator.detect().kind == "tcg")


if __name__ == "__main__":
    sys.exit(main(*(int(word) if word.isdigit() else word for word in sys.argv[1:])))  # type: ignore[arg-type]
