"""Shared by the benchmarks: time whole processes, sum up, describe the machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from rave_cli.bench.figures import facts, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["facts", "paired", "report", "summary", "wall"]


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


def report(name: str, figures: Mapping[str, Any]) -> None:
    """Print a benchmark's one JSON document."""
    json.dump({"benchmark": name, "machine": facts(), **figures}, sys.stdout, indent=2)
    sys.stdout.write("\n")
