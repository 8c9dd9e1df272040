"""What the README's first command costs: on a clean clone, again, and again without any network.

Usage: python -m benchmarks.bench_demo [ROUNDS]

Works on a clone with a home of its own, so nothing but the host's packages and its Nix store is
there before the first run. The rounds are those of the run without a network, with the machine
stopped before each, as after a night. Needs root, to take the network away.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import report, summary, wall
from rave_cli import process

ROOT = Path(__file__).resolve().parent.parent
RAVE = str(Path(".venv/bin/rave"))  # in the clone, where all this runs
LIMITS = {"first": 480.0, "again": 60.0, "offline": 60.0}  # seconds on two cores, p50

HOMES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")

# The loopback is all that is left, so the machine ends in there, too; only `make demo` is timed.
OFFLINE = (
    "ip link set lo up; began=$(date +%s.%N); make demo >&2; echo $began $(date +%s.%N);"
    ".venv/bin/rave down >&2"
)


def main(rounds: str = "3") -> int:
    """Print the figures; exit with 1 if a median is above its limit."""
    with tempfile.TemporaryDirectory(prefix="rave-bench-", dir="/var/tmp") as name:
        place = Path(name)
        (place / "run").mkdir(mode=0o700)
        subprocess.run(
            [process.require("git"), "clone", "--quiet", ROOT, place / "rave"], check=True
        )
        env = dict(os.environ) | {"HOME": name, "XDG_RUNTIME_DIR": str(place / "run")}
        env = {key: value for key, value in env.items() if key not in HOMES}
        os.chdir(place / "rave")
        try:
            figures = measure(env, int(rounds))
        finally:
            drop = [RAVE, "vm", "delete", "demo", "--force"]
            subprocess.run(drop, env=env, check=False, stdout=subprocess.DEVNULL)
    report("demo", {"seconds": figures, "limits": LIMITS})
    return int(any(figures[what]["p50"] > limit for what, limit in LIMITS.items()))


def measure(env: dict[str, str], rounds: int) -> dict[str, Any]:
    """Return the seconds of each kind of run."""
    first = wall(["make", "demo"], env)
    subprocess.run([RAVE, "down"], env=env, check=True, capture_output=True)
    again = wall(["make", "demo"], env)
    subprocess.run([RAVE, "down"], env=env, check=True, capture_output=True)
    return {
        "first": summary([first]),
        "again": summary([again]),
        "offline": summary([offline(env) for _ in range(rounds)]),
    }


def offline(env: dict[str, str]) -> float:
    """Return the seconds of `make demo` where there is no network."""
    done = subprocess.run(
        [process.require("unshare"), "--net", "sh", "-ec", OFFLINE],
        env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    began, ended = map(float, done.stdout.split()[-2:])
    return ended - began


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
