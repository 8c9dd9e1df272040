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
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import report, summary
from rave_cli import paths
from rave_cli.bench.measures import Stages
from rave_cli.images.build import existing_image
from rave_cli.machines import lifecycle, status, store
from rave_cli.machines.guest import ssh
from rave_cli.machines.lifecycle import stop
from rave_cli.machines.qemu import accelerator
from rave_cli.profiles.source import load_catalog

if TYPE_CHECKING:
    from rave_cli.machines.spec import MachineSpec

# What the main job promises under TCG on two cores, in seconds.
LIMITS = {"services": 14.0, "notice": 0.3, "stop": 8.0}


def run(spec: MachineSpec) -> dict[str, float]:
    """Measure one machine from its creation to its end."""
    began = time.monotonic()
    machine = store.create(spec)
    figures = {"create": time.monotonic() - began}
    stages = Stages(machine)
    try:
        lifecycle.start(machine, on_stage=stages.reached)
        figures |= stages.at | {"notice": stages.notice, "qemu cpu": stages.cpu}
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
