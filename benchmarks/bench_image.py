"""What an image costs: built cold, unchanged, and after a change to the guest's code alone.

Usage: python -m benchmarks.bench_image [ROUNDS]

Works on a copy of the checkout with a state directory of its own. "Cold" is a build in which
nothing of the image exists yet, from packages that are in the cache already.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from benchmarks.measure import report, summary, wall
from rave_cli import process

ROOT = Path(__file__).resolve().parent.parent
RAVE = str(Path(sys.executable).with_name("rave"))
BUILD = (RAVE, "--quiet", "vm", "build-image", "--profile", "demo", "--base", "debian")
LIMITS = {"cold": 120.0, "unchanged": 1.5, "guest code": 30.0}  # seconds on two cores, p50

# A comment in one of these makes the base, or only the image, a different one.
OF_BASE = "infra/debian/builders/guestroot.py"
OF_GUEST = "src/rave_guest/__init__.py"


def main(rounds: str = "3") -> int:
    """Print the figures; exit with 1 if a median is above its limit."""
    with tempfile.TemporaryDirectory() as name:
        flake, state = Path(name, "flake"), Path(name, "state")
        shutil.copytree(ROOT / "infra", flake / "infra")
        shutil.copytree(ROOT / "src", flake / "src")
        for file in ("flake.nix", "flake.lock"):
            shutil.copyfile(ROOT / file, flake / file)
        env = dict(os.environ) | {"RAVE_FLAKE": str(flake), "XDG_STATE_HOME": str(state)}
        figures = measure(flake, env, int(rounds))
    report("image", {"seconds": figures, "limits": LIMITS})
    return int(any(figures[what]["p50"] > limit for what, limit in LIMITS.items()))


def measure(flake: Path, env: dict[str, str], rounds: int) -> dict[str, Any]:
    """Return the seconds of each kind of build."""
    wall(BUILD, env)  # fills the package cache
    cold, unchanged, guest_code = [], [], []
    for _ in range(rounds):
        touch(flake / OF_BASE)
        cold.append(build_and_drop(env))
        touch(flake / OF_GUEST)
        guest_code.append(wall(BUILD, env))
        unchanged += [wall(BUILD, env) for _ in range(5)]
    return {
        "cold": summary(cold),
        "unchanged": summary(unchanged),
        "guest code": summary(guest_code),
    }


def build_and_drop(env: dict[str, str]) -> float:
    """Build, and free the disk of what the last round built."""
    before = Path(env["XDG_STATE_HOME"], "rave/images/demo-debian").readlink()
    seconds = wall(BUILD, env)
    process.run(["nix-store", "--delete", before], env={"NIX_REMOTE": "local"}, timeout=60)
    return seconds


def touch(file: Path) -> None:
    """Make a source file's content new without changing what it does."""
    with file.open("a") as stream:
        stream.write(f"# {uuid.uuid4()}\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
