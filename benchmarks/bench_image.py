"""What an image costs: built cold, unchanged, and after a change to the guest's code alone.

Usage: python -m benchmarks.bench_image [ROUNDS [PROFILE]]

Works on a copy of the checkout with a state directory of its own. "Cold" is a build in which
nothing of the image exists yet, from packages that are in the cache already. The size is what its
files take on the disk.
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
BUILD = (RAVE, "--quiet", "vm", "build-image", "--base", "debian", "--profile")
# Seconds on two cores, p50.
LIMITS = {
    "demo": {"cold": 120.0, "unchanged": 1.5, "guest code": 30.0},
    "development": {"cold": 240.0, "unchanged": 1.5, "guest code": 40.0},
}
MOST_GB = {"demo": 0.8, "development": 1.6}

# A comment in one of these makes the base, or only the image, a different one.
OF_BASE = "infra/debian/builders/guestroot.py"
OF_GUEST = "src/rave_guest/__init__.py"


def main(rounds: str = "3", profile: str = "demo") -> int:
    """Print the figures; exit with 1 if a median or the size is above its limit."""
    with tempfile.TemporaryDirectory() as name:
        flake, state = Path(name, "flake"), Path(name, "state")
        shutil.copytree(ROOT / "infra", flake / "infra")
        shutil.copytree(ROOT / "src", flake / "src")
        for file in ("flake.nix", "flake.lock"):
            shutil.copyfile(ROOT / file, flake / file)
        env = dict(os.environ) | {"RAVE_FLAKE": str(flake), "XDG_STATE_HOME": str(state)}
        figures = measure(flake, env, int(rounds), profile)
        size = on_disk(built(env, profile)) / 1e9
    limits = LIMITS[profile]
    found = {"profile": profile, "seconds": figures, "limits": limits, "gigabytes": round(size, 3)}
    report("image", found)
    late = any(figures[what]["p50"] > limit for what, limit in limits.items())
    return int(late or size > MOST_GB[profile])


def measure(flake: Path, env: dict[str, str], rounds: int, profile: str) -> dict[str, Any]:
    """Return the seconds of each kind of build."""
    build = (*BUILD, profile)
    wall(build, env)  # fills the package cache
    cold, unchanged, guest_code = [], [], []
    for _ in range(rounds):
        touch(flake / OF_BASE)
        cold.append(build_and_drop(env, profile))
        touch(flake / OF_GUEST)
        guest_code.append(wall(build, env))
        unchanged += [wall(build, env) for _ in range(5)]
    return {
        "cold": summary(cold),
        "unchanged": summary(unchanged),
        "guest code": summary(guest_code),
    }


def built(env: dict[str, str], profile: str) -> Path:
    """Return the output of the last build."""
    return Path(env["XDG_STATE_HOME"], f"rave/images/{profile}-debian").readlink()


def on_disk(output: Path) -> int:
    """Return the bytes that an output takes."""
    return sum(path.lstat().st_blocks * 512 for path in output.rglob("*"))


def build_and_drop(env: dict[str, str], profile: str) -> float:
    """Build, and free the disk of what the last round built."""
    before = built(env, profile)
    seconds = wall((*BUILD, profile), env)
    process.run(["nix-store", "--delete", before], env={"NIX_REMOTE": "local"}, timeout=60)
    return seconds


def touch(file: Path) -> None:
    """Make a source file's content new without changing what it does."""
    with file.open("a") as stream:
        stream.write(f"# {uuid.uuid4()}\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
