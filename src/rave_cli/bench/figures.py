"""Figures: percentiles, shares, and what they depend on."""

from __future__ import annotations

import os
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What a plot is made of, and what stands for it where letters are few.
LEVELS = "▁▂▃▄▅▆▇█"
FEW = "_.-=*#"
BAR, PLAIN_BAR = "█", "#"


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


def shares(medians: Mapping[str, float], total: str | None) -> dict[str, float]:
    """Return what part of the total each part is, from 0 to 1; nothing if there is no total."""
    whole = medians.get(total or "", 0.0)
    if not whole:
        return {}
    return {name: round(value / whole, 3) for name, value in medians.items() if name != total}


def plot(values: Sequence[float], *, few: bool = False) -> str:
    """Return a letter for each value, between the least and the largest; `few` in ASCII."""
    levels = FEW if few else LEVELS
    least, most = min(values), max(values)
    if most == least:
        return levels[0] * len(values)
    step = (most - least) / (len(levels) - 1)
    return "".join(levels[round((value - least) / step)] for value in values)


def bar(share: float, width: int, *, few: bool = False) -> str:
    """Return a bar as long as a share of the width says; none is empty."""
    return (PLAIN_BAR if few else BAR) * max(1, round(min(max(share, 0.0), 1.0) * width))


def facts() -> dict[str, object]:
    """Return what figures of this host depend on."""
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memoryMiB": memory,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
