"""What `rave vm cp` costs beside scp: one file of random bytes, into a machine and out of it.

Usage: python -m benchmarks.bench_cp NAME [ROUNDS] [MIB]

NAME is a machine that runs. Both are timed as whole processes, in turn; a ratio above 1 says that
rave is faster. scp gets the options that `rave vm ssh-config` prints. Rave goes over the command
channel where the guest serves it, which needs no ciphers; under TCG those are what scp waits for.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import paired, report, wall
from rave_cli.machines import store
from rave_cli.machines.guest.ssh import openssh_config
from rave_cli.machines.qemu import ports

# What issue 9 promises: at least so much of scp's throughput, p50.
LIMIT = 0.8


def main(name: str, rounds: int = 10, mib: int = 16) -> int:
    """Print the figures; exit with 1 if a p50 is below the limit."""
    machine = store.load(name)
    rave = str(Path(sys.executable).with_name("rave"))
    with tempfile.TemporaryDirectory() as folder:
        config, file, back = (Path(folder) / word for word in ("config", "file", "back"))
        config.write_text(openssh_config(machine, ports.ssh(machine)))
        file.write_bytes(os.urandom(mib << 20))
        scp = ["scp", "-q", "-F", str(config)]
        there = f"{name}:bench-cp"
        ways = {"in": (str(file), there), "out": (there, str(back))}
        figures = {}
        for way, (source, target) in ways.items():

            def by_scp(words: tuple[str, str] = (source, target)) -> float:
                return wall([*scp, *words])

            def by_rave(words: tuple[str, str] = (source, target)) -> float:
                return wall([rave, "vm", "cp", *words])

            figures[way] = paired(by_scp, by_rave, rounds)
        wall([rave, "vm", "exec", name, "--", "rm", "bench-cp"])
    report("cp", {"MiB": mib, "first": "scp", "second": "rave", "limit": LIMIT, "figures": figures})
    return int(any(figure["ratio"]["p50"] < LIMIT for figure in figures.values()))


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    sys.exit(main(name, *map(int, numbers)))
