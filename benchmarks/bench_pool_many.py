"""Many trivial jobs, each in a machine of its own: is none lost or run twice, how many a minute.

Usage: python -m benchmarks.bench_pool_many [JOBS] [PROFILE]

Serves the pool of whoever calls, which nobody may serve meanwhile, from the template of PROFILE,
which is made if there is none. JOBS jobs are submitted at once, each of which prints its own
number; two machines of 512 MiB run at a time. A job is wrong unless it ended in success at its
first attempt and printed its number once. Times in seconds; `load` is the host's at the end. Exits
with 1 if a job is wrong or a machine is left.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.bench_pool import serving
from benchmarks.measure import report, summary
from rave_cli.machines.qemu import processes
from rave_cli.machines.spec import machines_dir
from rave_cli.pool.access.reach import reach
from rave_cli.pool.jobs.store import Piece
from rave_cli.pool.jobs.work import Work

if TYPE_CHECKING:
    from rave_cli.pool.access.pool import PoolAccess
    from rave_cli.pool.jobs.job import Job

AT_ONCE = ("--agents", "2", "--memory", "512")


def ended(pool: PoolAccess, name: str) -> tuple[Job, bytes]:
    """Follow a job to its end; return it and what it printed."""
    printed = b""
    last = None
    for told in pool.follow(name):
        if isinstance(told, Piece):
            printed += told.data
        else:
            last = told
    if last is None:
        raise SystemExit(f"nothing was told of job {name}")
    return last, printed


def left() -> int:
    """Return how many of the pool's machines there are."""
    return sum(
        process.directory is not None
        and process.directory.parent == machines_dir()
        and process.directory.name.startswith("job-")
        for process in processes.machines()
    )


def main(jobs: int = 1000, profile: str = "demo") -> int:
    """Print the figures; return the exit code."""
    with serving(profile, *AT_ONCE), reach(None) as pool:
        ended(pool, pool.submit([Work(("echo", "first"))])[0].name)
        began = time.monotonic()
        submitted = pool.submit([Work(("echo", str(number))) for number in range(jobs)])
        accepted = time.monotonic() - began
        wrong, ran = [], []
        for number, job in enumerate(submitted):
            last, printed = ended(pool, job.name)
            if (last.state, last.attempt, printed.split()) != ("success", 1, [b"%d" % number]):
                wrong.append({"job": job.name, "state": last.state, "attempt": last.attempt})
            if last.began is not None and last.ended is not None:
                ran.append(last.ended - last.began)
        took = time.monotonic() - began
    figures = {
        "jobs": jobs, "wrong": wrong, "accepted": accepted, "took": took,
        "a minute": jobs / took * 60, "a job": summary(ran),
        "machines left": left(), "load": os.getloadavg()[0],
    }  # fmt: skip
    report("pool many", figures)
    return int(bool(wrong or figures["machines left"]))


if __name__ == "__main__":
    sys.exit(main(*(int(word) if word.isdigit() else word for word in sys.argv[1:])))  # type: ignore[arg-type]
