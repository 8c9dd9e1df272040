"""What a pool's figures for Prometheus cost, by how many jobs wait.

    python -m benchmarks.bench_pool_metrics [RUNS]

A new store on this disk for each; the time is that of the text as `/metrics` answers it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.serving.metrics import PoolMetrics

WAITING = (0, 100, 10_000, 100_000)


def main() -> None:
    """Print a table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for waiting in WAITING:
        with tempfile.TemporaryDirectory() as place, JobStore(Path(place) / "p/jobs") as store:
            for at in range(0, waiting, 1000):
                store.accept([Work(("true",))] * min(1000, waiting - at))
            metrics, took = PoolMetrics("demo"), []
            for _ in range(runs):
                began = time.perf_counter()
                text = metrics.text(store)
                took.append((time.perf_counter() - began) * 1000)
            p50, p95 = statistics.median(took), statistics.quantiles(took, n=20)[-1]
            print(f"{waiting:>7} wait: {p50:.2f} ms p50, {p95:.2f} ms p95, {len(text)} bytes")


main()
