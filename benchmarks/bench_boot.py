"""What a boot costs: launch to every service healthy, per stage, and how soon the CLI notices.

Usage: python -m benchmarks.bench_boot [ROUNDS] [PROFILE] [BASE]

The image must have been built. Each round makes a new machine in a directory of its own, starts it,
logs in, stops and deletes it. Wall-clock figures need an idle host; QEMU's CPU time hardly does.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import report, summary
from rave_cli import paths
from rave_cli.images.build import existing_image
from rave_cli.machines import lifecycle, status, store
from rave_cli.machines.guest import ssh
from rave_cli.machines.lifecycle import stop
from rave_cli.machines.qemu import accelerator, processes
from rave_cli.profiles.source import load_catalog

if TYPE_CHECKING:
    from rave_cli.machines.guest.readiness import Reached
    from rave_cli.machines.spec import Machine, MachineSpec

# What the main job promises under TCG on two cores, in seconds.
LIMITS = {"services": 14.0, "notice": 0.3, "stop": 8.0}


@dataclass
class Round:
    """The figures of one boot, in seconds."""

    machine: Machine
    figures: dict[str, float] = field(default_factory=dict)

    def reached(self, stage: Reached) -> None:
        """Take a stage; for the services, also when the guest's report arrived on the host."""
        self.figures[stage.name] = stage.seconds
        if stage.name == "services":
            self.figures["notice"] = time.time() - self.machine.stage_file.stat().st_mtime
            self.figures["qemu cpu"] = cpu_seconds(self.machine)


def cpu_seconds(machine: Machine) -> float:
    """Return the CPU time QEMU has used; proc_pid_stat(5), fields 14 and 15."""
    running = processes.find(machine)
    if running is None:
        return 0.0
    fields = (processes.PROC / str(running.pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(spec: MachineSpec) -> dict[str, float]:
    """Measure one machine from its creation to its end."""
    began = time.monotonic()
    measured = Round(store.create(spec))
    machine, figures = measured.machine, measured.figures
    figures["create"] = time.monotonic() - began
    try:
        lifecycle.start(machine, on_stage=measured.reached)
        began = time.monotonic()
        with ssh.connect(machine) as session:
            figures["ssh connect"] = time.monotonic() - began
            began = time.monotonic()
            session.run(["true"], timeout=30)
            figures["ssh command"] = time.monotonic() - began
        figures["resident MiB"] = float(status.of(machine).resident_mib or 0)
        figures["stop"] = stop(machine).seconds
    finally:
        lifecycle.delete(machine.name, force=True)
    return figures


def main(rounds: int = 5, profile: str = "demo", base: str = "debian") -> int:
    """Print the figures; exit with 1 if a p50 is above its limit under TCG."""
    plan = load_catalog(Path.cwd()).plan(profile, base)
    image = existing_image(plan)
    if image is None:
        sys.stderr.write(f"no image: rave vm build-image --profile {profile} --base {base}\n")
        return 2
    found = accelerator.detect()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="rave-bench-", dir=paths.cache_dir()) as place:
        os.environ["XDG_DATA_HOME"] = place
        results = [
            run(store.new_spec(plan, image, name="bench", mode="safe")) for _ in range(rounds)
        ]
    figures = {name: summary([result[name] for result in results]) for name in results[0]}
    report(
        "boot",
        {"accelerator": found.document, "load before": load, "limits": LIMITS, "figures": figures},
    )
    late = [name for name, limit in LIMITS.items() if figures[name]["p50"] > limit]
    return int(bool(late) and found.kind == "tcg")


if __name__ == "__main__":
    sys.exit(main(*(int(word) if word.isdigit() else word for word in sys.argv[1:])))  # type: ignore[arg-type]
