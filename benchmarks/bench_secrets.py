"""What secrets cost: checking the file against bare sops, and installing them in a machine.

Usage: python -m benchmarks.bench_secrets [ROUNDS] [MACHINE]

Without MACHINE only the first part is measured. With it, the machine (running, demo profile) gets
its secrets unchanged and rotated in turn, by the operator's own secrets file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import paired, report, summary, wall
from rave_cli.secrets import sops

INSTALL_LIMIT = 5.0  # seconds, on two cores under TCG
RAVE = str(Path(sys.executable).with_name("rave"))


def main(rounds: str = "10", machine: str = "") -> int:
    """Print the figures; exit with 1 if an installation takes longer than INSTALL_LIMIT (p50)."""
    figures: dict[str, Any] = {"validate": validation(int(rounds))}
    if machine:
        figures["install"] = installation(int(rounds), machine)
    report("secrets", figures)
    return int(any(f["p50"] > INSTALL_LIMIT for f in figures.get("install", {}).values()))


def validation(rounds: int) -> dict[str, Any]:
    """Time `rave secrets validate` on a full file, against sops decrypting it once."""
    with tempfile.TemporaryDirectory() as home:
        env = {"HOME": home, "PATH": "/usr/bin:/bin"}
        wall([RAVE, "secrets", "init"], env)
        file = f"{home}/.config/rave/secrets.sops.yaml"
        tool = str(sops.locate().path)
        figures = paired(
            lambda: wall([RAVE, "secrets", "validate"], env),
            lambda: wall([tool, "decrypt", file], env),
            rounds,
        )
    return {
        "rave secrets validate": figures["first"],
        "sops decrypt": figures["second"],
        "ratio": figures["ratio"],
    }


def installation(rounds: int, machine: str) -> dict[str, Any]:
    """Time `rave secrets install`, unchanged and with every secret of the machine rotated."""
    wall([RAVE, "secrets", "install", machine])
    rotated, unchanged = [], []
    for _ in range(rounds):
        wall([RAVE, "secrets", "rotate", *_names(machine)])
        rotated.append(wall([RAVE, "secrets", "install", machine]))
        unchanged.append(wall([RAVE, "secrets", "install", machine]))
    return {"rotated": summary(rotated), "unchanged": summary(unchanged)}


def _names(machine: str) -> list[str]:
    done = subprocess.run(
        [RAVE, "--json", "secrets", "install", machine], check=True, capture_output=True
    )
    return [placed["name"] for placed in json.loads(done.stdout)["secrets"]]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
