"""What starting rave costs, against `python -c "import click"` in the same run.

Usage: python -m benchmarks.bench_cli [ROUNDS]
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import paired, report, wall

LIMIT = 1.6


def main(rounds: int = 30) -> int:
    """Print the figures; exit with 1 if help costs more than LIMIT times importing Click."""
    rave = str(Path(sys.executable).with_name("rave"))
    figures = paired(
        lambda: wall([rave, "--help"]),
        lambda: wall([sys.executable, "-c", "import click"]),
        rounds,
    )
    report("cli", {"rave --help": figures["first"], "import click": figures["second"],
                   "ratio": figures["ratio"], "limit": LIMIT})  # fmt: skip
    return int(figures["ratio"]["p50"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
