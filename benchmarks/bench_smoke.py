"""What a smoke run costs on a running machine, per phase, and what the probe costs inside.

Usage: python -m benchmarks.bench_smoke MACHINE [ROUNDS]

The machine must run and have its secrets. Each round asks every question and writes its reports to
a directory of its own. Wall-clock figures need an idle host; the probe's CPU time hardly does.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import report, summary
from rave_cli import settings
from rave_cli.bench import measures
from rave_cli.machines import store
from rave_cli.machines.guest import ssh
from rave_cli.machines.guest.door import VERSION
from rave_cli.profiles.source import load_catalog
from rave_cli.smoke import inside
from rave_cli.smoke.suite import suite

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Plan

# What the main job promises under TCG on two cores, in seconds.
LIMIT = 15.0
TIMED = ("bash", "-c", 'TIMEFORMAT="%R %U %S"; time /usr/lib/rave/rave-guest door')


def smoke(machine: Machine, plan: Plan) -> dict[str, float]:
    """Carry out one run and return its seconds: in total, and of each phase."""
    found = measures.smoke(measures.BenchSubject(machine, lambda: plan, "safe", settings.load()))
    return {"total" if part == measures.TOTAL else f"phase {part}": s for part, s in found.items()}


def probe(machine: Machine, plan: Plan) -> dict[str, float]:
    """Ask both batches of the guest once more and return their wall and CPU seconds inside."""
    spec = machine.spec
    checks = suite(plan, instance=spec.instance_id, memory_mib=spec.memory_mib)
    first = [c for c in checks if c.viewpoint == "guest" and c.step == "inside"]
    rest = [c for c in checks if c.viewpoint == "guest" and c.step == "late"]
    figures: dict[str, float] = {}
    with ssh.connect(machine) as session:
        for name, batch in (("empty", []), ("first", first), ("second", rest)):
            request = {"v": VERSION, "verb": "probe", "arguments": inside.request(batch)}
            done = session.run(TIMED, stdin=json.dumps(request).encode(), timeout=120, sudo=True)
            wall, user, system = map(float, done.error_text.split()[-3:])
            figures |= {f"probe {name} wall": wall, f"probe {name} cpu": user + system}
    return figures


def main(name: str, rounds: int = 5) -> int:
    """Print the figures; exit with 1 if the p50 of all phases is above the limit."""
    machine = store.load(name)
    plan = load_catalog(None).plan(machine.spec.profile, machine.spec.base)
    found = [smoke(machine, plan) | probe(machine, plan) for _ in range(rounds)]
    figures = {key: summary([entry[key] for entry in found]) for key in found[0]}
    report("smoke", {"seconds": figures, "limit": LIMIT})
    return int(figures["total"]["p50"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
