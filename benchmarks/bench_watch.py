"""What `rave vm watch` takes of a processor while five machines run and nothing happens.

Usage: python -m benchmarks.bench_watch [SECONDS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench_list import running
from benchmarks.measure import report

MACHINES = 5
LIMIT = 1.0  # percent of one processor


def main(seconds: int = 30) -> int:
    """Print the figures; exit with 1 if watching takes more than LIMIT."""
    rave = str(Path(sys.executable).with_name("rave"))
    with (
        running(MACHINES),
        subprocess.Popen([rave, "vm", "watch", "--json"], stdout=subprocess.PIPE) as watching,
    ):
        assert watching.stdout is not None  # noqa: S101 - it was given a pipe
        for _ in range(MACHINES):
            watching.stdout.readline()
        time.sleep(2)
        before = cpu_seconds(watching.pid)
        time.sleep(seconds)
        used = cpu_seconds(watching.pid) - before
        watching.terminate()
    percent = round(100 * used / seconds, 2)
    report("watch", {"machines": MACHINES, "seconds": seconds, "cpu percent": percent,
                     "limit": LIMIT})  # fmt: skip
    return int(percent > LIMIT)


def cpu_seconds(pid: int) -> float:
    """Return what a process has used of all processors, in seconds (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
