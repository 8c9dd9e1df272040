"""Shared by the benchmarks: time whole processes, sum up, describe the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def wall(argv: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Return the seconds a whole process takes, from fork to reaping; it must succeed."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True, env=dict(env) if env else None)
    return time.perf_counter() - began


def paired(first: Callable[[], float], second: Callable[[], float], rounds: int) -> dict[str, Any]:
    """Measure two things in turn, so that a machine whose speed drifts is fair to both."""
    pairs = [(first(), second()) for _ in range(rounds + 1)][1:]  # the first round warms up
    return {
        "first": summary([a for a, _ in pairs]),
        "second": summary([b for _, b in pairs]),
        "ratio": summary([a / b for a, b in pairs]),
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95, the extremes and the number of values."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return {
        "p50": round(statistics.median(ordered), 4),
        "p95": round(p95, 4),
        "min": round(ordered[0], 4),
        "max": round(ordered[-1], 4),
        "n": len(ordered),
    }


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def report(name: str, figures: Mapping[str, Any]) -> None:
    """Print a benchmark's one JSON document."""
    json.dump({"benchmark": name, "machine": machine(), **figures}, sys.stdout, indent=2)
    sys.stdout.write("\n")
