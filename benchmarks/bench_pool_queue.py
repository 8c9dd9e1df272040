"""What a job in the pool's queue costs: put into it, taken, ended, and waiting beside many others.

    python -m benchmarks.bench_pool_queue [MOST]

On a store (SQLite, synchronous=FULL) and a redis-server of its own, in a folder of their own on
this disk. MOST jobs wait in the end, 100,000 unless told otherwise. Each cost is the median of so
many calls, with its 95th percentile, in milliseconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.pool.asking import explaining
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.trial.pool import SOON, on_trial
from rave_cli.transcript import signing_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.trial.pool import PoolTrial

WORK = Work(("true",))
CALLS = 40
BATCH = 500


def main(most: int) -> None:
    """Measure, and print a line for each size of the queue."""
    load = Path("/proc/loadavg").read_text().split()[0]
    print(json.dumps({"load_before": load}), flush=True)
    with on_trial(signing_key()) as trial:
        print(json.dumps({"enqueued_per_second": _enqueued(trial)}), flush=True)
        trial.broker.client.flushall()
    with on_trial(signing_key()) as trial:
        for waiting in [n for n in (0, 1_000, 10_000, 100_000) if n <= most]:
            _fill(trial, waiting)
            print(json.dumps({"waiting": waiting} | _costs(trial)), flush=True)
        used = trial.broker.client.info("memory")["used_memory"]
        print(json.dumps({"redis_bytes_per_job": round(used / max(1, most))}), flush=True)


def _enqueued(trial: PoolTrial) -> int:
    """Return how many jobs a second go into the queue, as the dispatcher puts them there."""
    jobs = trial.store.accept([WORK] * 20_000)
    began = time.perf_counter()
    for at in range(0, len(jobs), BATCH):
        trial.queue.enqueue("bench", jobs[at : at + BATCH])
    return round(len(jobs) / (time.perf_counter() - began))


def _fill(trial: PoolTrial, waiting: int) -> None:
    """Let so many jobs wait, in the store and in the queue."""
    there = trial.store.counts().get("waiting", 0)
    while there < waiting:
        few = min(5_000, waiting - there)
        trial.store.accept([WORK] * few, most=10 * waiting)
        there += few
    trial.turn()


def _costs(trial: PoolTrial) -> dict[str, list[float]]:
    last = trial.store.newest(1)
    agent = trial.agent()

    def ended() -> None:
        agent.turn(SOON)
        trial.turn()

    found = {
        "accept": _took(lambda: trial.store.accept([WORK], most=10**7)),
        "take_run_end": _took(ended),
        "status": _took(trial.store.counts),
    }
    if last:
        found["explain"] = _took(lambda: explaining.look(trial.store, last[0]))
    return found


def _took(do: Callable[[], object]) -> list[float]:
    seconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - began)
    seconds.sort()
    return [round(1e3 * seconds[CALLS // 2], 2), round(1e3 * seconds[CALLS * 95 // 100], 2)]


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)
