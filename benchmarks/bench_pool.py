"""How soon a job of the pool says something: from its submission to the first output seen.

Usage: python -m benchmarks.bench_pool [JOBS] [PROFILE]

Serves the pool of whoever calls, which nobody may serve meanwhile, from the template of PROFILE,
which is made if there is none. JOBS jobs that print one word are submitted one after another, first
with no machine that stands by, then with one, which is waited for each time. A job is over before
the next comes. Times in seconds, on the clock of this process, which has the pool's store open as
`rave pool run` does; `began` is until the agent had it, `starting` from there until its command
began. Wall-clock figures need an idle host; `load` is what it was.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import report, summary
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.spec import machines_dir
from rave_cli.pool.access.reach import reach
from rave_cli.pool.jobs.store import Piece
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.served import read, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.access.pool import PoolAccess

LIMITS = {"anew": 1.5, "stood by": 0.6}  # seconds, p50, TCG, two cores
SERVES = 300.0
STANDS_BY = 60.0
WORK = Work(("echo", "said"), timeout=60)
# Seconds for what the last job has left to be over.
RESTS = 2.0


@contextmanager
def serving(profile: str, *options: str) -> Iterator[None]:
    """Serve the pool meanwhile."""
    argv = [str(Path(sys.executable).with_name("rave")), "pool", "serve"]
    server = subprocess.Popen(
        [*argv, "--profile", profile, "--base", "debian", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + SERVES
        while not (served() and read() is not None):
            if server.poll() is not None or time.monotonic() > until:
                raise SystemExit("the pool is not served: rave pool serve")
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def stands_by() -> bool:
    """Return whether a machine of the pool is paused: it is ready for a job, or about to be."""
    for process in processes.machines():
        place = process.directory
        if place is None or place.parent != machines_dir() or not place.name.startswith("job-"):
            continue
        try:
            with Qmp.connect((process.runtime or place) / "qmp.sock", timeout=1) as monitor:
                if monitor.execute("query-status", timeout=1).get("status") == "paused":
                    return True
        except QmpError:
            continue
    return False


def job(pool: PoolAccess) -> dict[str, float]:
    """Submit a job and follow it to its end; return what it took."""
    began = time.monotonic()
    (submitted,) = pool.submit([WORK])
    figures: dict[str, float] = {}
    last = submitted
    for told in pool.follow(submitted.name):
        if isinstance(told, Piece):
            figures.setdefault("first output", time.monotonic() - began)
        else:
            last = told
    if last.state != "success" or last.began is None:
        raise SystemExit(f"job {last.name} ended as {last.state}: {last.why}")
    figures["over"] = time.monotonic() - began
    figures["began"] = last.began - last.submitted
    figures["starting"] = last.facts.starting or 0.0
    return figures


def rounds(pool: PoolAccess, jobs: int, *, standby: bool) -> dict[str, Any]:
    """Run jobs one after another; return the figures of all."""
    pool.stand_by(int(standby))
    found, loads = [], []
    for _ in range(jobs):
        time.sleep(RESTS)
        until = time.monotonic() + STANDS_BY
        while standby and not stands_by():
            if time.monotonic() > until:
                raise SystemExit("no machine stands by: rave pool status")
            time.sleep(0.1)
        if standby:
            # It is paused before it becomes itself, too.
            time.sleep(RESTS)
        loads.append(os.getloadavg()[0])
        found.append(job(pool))
    return {
        **{name: summary([figures[name] for figures in found]) for name in found[0]},
        "load": summary(loads),
    }


def main(jobs: int = 10, profile: str = "demo") -> int:
    """Print the figures; exit with 1 if a median is above its limit."""
    with serving(profile), reach(None) as pool:
        rounds(pool, 1, standby=False)
        figures = {
            "anew": rounds(pool, jobs, standby=False),
            "stood by": rounds(pool, jobs, standby=True),
        }
        pool.stand_by(0)
    report("pool", {"seconds": figures, "limits": LIMITS})
    return int(any(figures[what]["first output"]["p50"] > most for what, most in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main(*(int(word) if word.isdigit() else word for word in sys.argv[1:])))  # type: ignore[arg-type]
